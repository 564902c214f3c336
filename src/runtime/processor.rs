//! What this process's processor is, and what it is fast and exact at.

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

/// Whether products of bf16 are faster than those of f32 on Intel's processors: with AMX. On a Xeon that has the instructions of
/// AVX-512 but no AMX (model 207) OpenVINO's were slower.
pub(super) fn bf16_is_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_amx();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// AMX-BF16 and AMX-TILE: bits 22 and 24 of EDX of leaf 7.
#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    const BITS: u32 = 1 << 22 | 1 << 24;
    cpuid(7).edx & BITS == BITS && tiles_are_kept()
}

/// Whether the system keeps the registers of AMX when threads change: bits 17 and 18 of XCR0.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn tiles_are_kept() -> bool {
    const BITS: u64 = 1 << 17 | 1 << 18;
    // SAFETY: the system has turned the instruction on, which the detection looks at.
    std::arch::is_x86_feature_detected!("xsave") && unsafe { std::arch::x86_64::_xgetbv(0) } & BITS == BITS
}

/// Who made it, as it says itself: "GenuineIntel", "AuthenticAMD", ….
#[cfg(target_arch = "x86_64")]
pub(super) fn vendor() -> String {
    let vendor = cpuid(0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat();
    String::from_utf8_lossy(&name).into_owned()
}

/// Only x86-64 says so in one word.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn vendor() -> String {
    "unknown".into()
}

/// What the processor says of itself on page `leaf`.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, unused_unsafe)] // safe since Rust 1.94
fn cpuid(leaf: u32) -> std::arch::x86_64::CpuidResult {
    // SAFETY: every processor of x86-64 has the instruction.
    unsafe { std::arch::x86_64::__cpuid_count(leaf, 0) }
}

/// Which processor this is, as far as the speed of kernels goes: two that are named alike choose the same kernels.
pub(crate) fn name() -> String {
    format!("{} {}", std::env::consts::ARCH, [model(), features()].concat().join(" "))
}

/// Leaves 8000_0002 to 8000_0004 of CPUID spell the name; leaf 1 has family, model and stepping in EAX.
#[cfg(target_arch = "x86_64")]
fn model() -> Vec<String> {
    let mut spelled = Vec::new();
    if cpuid(0x8000_0000).eax >= 0x8000_0004 {
        let words = (0x8000_0002..=0x8000_0004).map(cpuid).flat_map(|r| [r.eax, r.ebx, r.ecx, r.edx]);
        spelled.extend(words.flat_map(u32::to_le_bytes).filter(|byte| (0x20..0x7f).contains(byte)));
    }
    let spelled = String::from_utf8_lossy(&spelled).trim().to_string();
    vec![spelled, format!("{:x}", cpuid(1).eax)]
}

/// The register that says implementer and part, where the system shows it.
#[cfg(not(target_arch = "x86_64"))]
fn model() -> Vec<String> {
    let register = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1");
    register.map(|text| text.trim().to_string()).into_iter().collect()
}

/// The extensions by which ONNX Runtime picks its kernels, of those that this process may use.
fn features() -> Vec<String> {
    macro_rules! detected {
        ($detect:ident: $($feature:tt)*) => {{
            let mut found: Vec<String> = Vec::new();
            $(if std::arch::$detect!($feature) { found.push($feature.into()); })*
            found
        }};
    }
    #[cfg(target_arch = "x86_64")]
    return detected!(is_x86_feature_detected:
        "avx" "avx2" "fma" "avxvnni" "avx512f" "avx512bw" "avx512vl" "avx512vnni");
    #[cfg(target_arch = "aarch64")]
    return detected!(is_aarch64_feature_detected: "dotprod" "i8mm" "sve" "fp16" "bf16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return Vec::new();
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_says_what_kernels_there_are() {
        let name = super::name();
        println!("{name}");
        assert!(name.starts_with(std::env::consts::ARCH) && name == super::name());
        #[cfg(target_arch = "x86_64")]
        assert_eq!(name.contains(" avx2"), std::arch::is_x86_feature_detected!("avx2"));
    }
}
