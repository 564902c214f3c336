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

/// Whether products of bf16 are faster than those of f32: with AMX, and with the AVX-512 of AMD. On an Intel Xeon that has the
/// instructions of AVX-512 but no AMX, OpenVINO's took twice as long as those of f32.
pub(super) fn bf16_is_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512bf16") {
        return has_amx() || is_of_amd();
    }
    false
}

/// AMX-BF16 and AMX-TILE: bits 22 and 24 of EDX of leaf 7.
#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    const BITS: u32 = 1 << 22 | 1 << 24;
    cpuid(7).edx & BITS == BITS
}

#[cfg(target_arch = "x86_64")]
fn is_of_amd() -> bool {
    let vendor = cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}

/// What the processor says of itself on page `leaf`.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, unused_unsafe)] // safe since Rust 1.94
fn cpuid(leaf: u32) -> std::arch::x86_64::CpuidResult {
    // SAFETY: every processor of x86-64 has the instruction.
    unsafe { std::arch::x86_64::__cpuid_count(leaf, 0) }
}
