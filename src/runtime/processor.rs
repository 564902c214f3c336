//! What this process's processor is fast and exact at.

use crate::graph::int8::Resolution;

/// How finely activations may be rounded so that ONNX Runtime's kernels for u8·i8 are exact on this processor: its
/// x86 kernels for VNNI (AVX-512 and AVX) and AMX add in 32 bits, those for AVX-512 without VNNI, AVX2 and SSE add pairs
/// in 16; those of ARM64 are exact with every extension (`tests/integration/graph/int8.rs`).
pub fn int8_resolution() -> Resolution {
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("avx512vnni") && !std::arch::is_x86_feature_detected!("avxvnni") {
        return Resolution::Half;
    }
    Resolution::Full
}
