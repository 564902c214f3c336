//! The floating-point mode that this library computes in, whatever mode the host has.

/// Round to nearest, keep denormals, trap nothing, in this thread from now on. A new thread inherits the mode of the one that
/// made it, and a host that flushes denormals or traps divisions must neither get other pictures nor a signal.
pub(super) fn set() {
    write(DEFAULT);
}

/// Computes `work` in that mode, and gives the thread back the mode that it had, exception flags included.
pub(crate) fn by_default<T>(work: impl FnOnce() -> T) -> T {
    let _mode = HostMode(read());
    write(DEFAULT);
    work()
}

/// The mode of a host's thread, which gets it back.
struct HostMode(u64);

impl Drop for HostMode {
    fn drop(&mut self) {
        write(self.0);
    }
}

/// MXCSR's documented power-on value.
#[cfg(target_arch = "x86_64")]
const DEFAULT: u64 = 0x1f80;
/// FPCR 0 is the architecture's default mode.
#[cfg(not(target_arch = "x86_64"))]
const DEFAULT: u64 = 0;

#[allow(unsafe_code)]
fn read() -> u64 {
    #[allow(unused_mut)]
    let mut mode = DEFAULT;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: stores this thread's MXCSR.
    unsafe {
        std::arch::asm!("stmxcsr [{}]", in(reg) &mut mode, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: reads this thread's FPCR.
    unsafe {
        std::arch::asm!("mrs {}, fpcr", out(reg) mode, options(nostack, nomem));
    }
    mode
}

#[allow(unsafe_code)]
fn write(mode: u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: loads a value that is documented, or was this thread's, into its MXCSR, which has 32 bits.
    unsafe {
        std::arch::asm!("ldmxcsr [{}]", in(reg) &mode, options(nostack, readonly));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: loads a value that is documented, or was this thread's, into its FPCR.
    unsafe {
        std::arch::asm!("msr fpcr, {}", in(reg) mode, options(nostack, nomem));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = mode;
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn work_is_done_in_the_default_mode_and_the_host_keeps_its_own() {
        const DOWN: u64 = DEFAULT | 0x2000;
        const FLAGS: u64 = 0x3f;
        // The f32 nearest to a third lies above it.
        let third = || black_box(1.0_f32) / black_box(3.0);
        let nearest = third();
        write(DOWN);
        let (down, inside, kept) = (third(), by_default(third), read());
        write(DEFAULT);
        assert!(down < nearest, "{down} {nearest}");
        assert_eq!((inside, kept & !FLAGS), (nearest, DOWN));
    }
}
