//! The heap of the process, which ONNX Runtime shares with its host.
//!
//! glibc has a heap for every few threads. What a thread frees stays with its heap, and `malloc_trim` gives the system what is
//! free between blocks, but not what is free behind the last one: of heaps other than the first that stays until it is as
//! much as twice the largest block that was ever freed, up to 64 MiB each. Engines come and go, and so do their threads: on
//! the bundled model that is some 20 MB that nobody uses, now more, now less. So each thread returns the end of its own heap
//! ([`release_thread`]): it takes it as blocks, tells the system that their pages are not needed, and frees them.

/// Give freed heap pages back to the system where the C library can.
#[allow(unsafe_code)]
pub(crate) fn release_heap() {
    release_thread();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim only returns free pages; it has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Give back what is free at the end of this thread's heap. To be called before a thread ends, and where it frees much.
pub(crate) fn release_thread() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    glibc::release_end();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    #![allow(unsafe_code)]

    use std::ffi::c_void;
    use std::ptr::null_mut;

    use crate::shortage;

    /// Bytes of a block: smaller than any that glibc takes from the system directly.
    const BLOCK: usize = 112 << 10;
    /// Blocks without a page in memory, one after the other, behind which no other is looked for. Blocks come from between
    /// others first, where `malloc_trim` has been before, and from the end when there is no room left between: as much is
    /// passed over on the way to the end.
    const UNUSED: usize = (32 << 20) / BLOCK;
    /// Most blocks: two heaps are as long, of which a thread may have several in a row.
    const MOST: usize = (128 << 20) / BLOCK;
    /// Where a heap begins and how long it is, but for the first one's.
    const HEAP: usize = 64 << 20;
    /// Pages of a block, if they are small.
    const PAGES: usize = BLOCK / 4096;

    /// Bytes that must be free beside: nobody is to miss for a moment what is taken here.
    const SPARE: u64 = 256 << 20;

    pub fn release_end() {
        if shortage::room("the heap", SPARE).is_err() {
            return;
        }
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let (mut last, mut unused) = (null_mut::<c_void>(), 0);
        for _ in 0..MOST {
            // SAFETY: a block is this function's until it is freed below; its first bytes hold the one before.
            unsafe {
                let block = libc::malloc(BLOCK);
                if block.is_null() {
                    break;
                }
                // Behind the page that the heap itself has written to.
                let start = (block as usize + size_of::<usize>()).next_multiple_of(page);
                let length = ((block as usize + BLOCK) & !(page - 1)).saturating_sub(start);
                block.cast::<*mut c_void>().write(last);
                last = block;
                unused = if is_used(start as *mut c_void, length) { 0 } else { unused + 1 };
                if libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED) != 0 {
                    // The host has locked its memory.
                    break;
                }
            }
            // A question of some microseconds, asked ever more seldom.
            if unused >= UNUSED || (unused.is_power_of_two() && is_last(last as usize + BLOCK, page)) {
                break;
            }
        }
        while !last.is_null() {
            // SAFETY: a block of the list, read before it is freed.
            unsafe {
                let before = last.cast::<*mut c_void>().read();
                libc::free(last);
                last = before;
            }
        }
    }

    /// Whether any page is in memory.
    fn is_used(start: *mut c_void, length: usize) -> bool {
        let mut pages = [0_u8; PAGES];
        // SAFETY: the pages lie in a block that lives, and are no more than there are places for.
        let told = unsafe { libc::mincore(start, length, pages.as_mut_ptr()) };
        told != 0 || pages.iter().any(|page| page & 1 != 0)
    }

    /// Whether nothing of the heap behind `end` is in memory: what there is between others lies before one that is.
    fn is_last(end: usize, page: usize) -> bool {
        let start = end.next_multiple_of(page);
        let length = start.next_multiple_of(HEAP) - start;
        let mut pages = [0_u8; HEAP / 4096];
        // SAFETY: asks about addresses, whatever is there, and no more than there are places for.
        let told = unsafe { libc::mincore(start as *mut c_void, length, pages.as_mut_ptr()) };
        told == 0 && length > 0 && pages.iter().all(|page| page & 1 == 0)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// Bytes in memory of the mapping around `at`.
        fn resident(at: usize) -> usize {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let mut inside = false;
            for line in maps.lines() {
                if let Some((range, _)) = line.split_once(' ')
                    && let Some((from, to)) = range.split_once('-')
                {
                    let number = |text| usize::from_str_radix(text, 16).unwrap();
                    inside = (number(from)..number(to)).contains(&at);
                } else if inside && let Some(size) = line.strip_prefix("Rss:") {
                    return size.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10;
                }
            }
            0
        }

        /// Blocks of a heap, written to: less than any that glibc takes from the system directly.
        unsafe fn written(count: usize) -> Vec<*mut c_void> {
            const LENGTH: usize = 100 << 10;
            // SAFETY: blocks of malloc, written to within their length.
            unsafe {
                let blocks: Vec<_> = (0..count).map(|_| libc::malloc(LENGTH)).collect();
                blocks.iter().for_each(|block| block.cast::<u8>().write_bytes(1, LENGTH));
                blocks
            }
        }

        /// In a process of its own: what others do with the heaps of this one would be seen, and blocks of 16 MiB change how
        /// they are kept.
        #[test]
        fn the_end_of_a_heap_goes_back() {
            const ALONE: &str = "SOFTDIMO_TEST_HEAP";
            if std::env::var_os(ALONE).is_none() {
                let mut child = std::process::Command::new(std::env::current_exe().unwrap());
                child.args([
                    "--exact",
                    "runtime::heap::glibc::tests::the_end_of_a_heap_goes_back",
                    "--nocapture",
                ]);
                let output = child.env(ALONE, "1").output().unwrap();
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success() && said.contains("1 passed"), "{said}");
                return;
            }
            let check = || {
                // Once a block of 16 MiB has been freed, ends of up to 32 MiB stay.
                // SAFETY: blocks of malloc, freed once.
                unsafe {
                    libc::free(std::hint::black_box(libc::malloc(16 << 20)));
                    // Room of 16 MiB before a block that stays, given back, and 8 MiB behind it.
                    let (between, stays, end) = (written(160), written(1)[0], written(80));
                    let at = end[40] as usize;
                    between.into_iter().for_each(|block| libc::free(block));
                    libc::malloc_trim(0);
                    end.into_iter().for_each(|block| libc::free(block));
                    let before = resident(at);
                    release_end();
                    libc::malloc_trim(0);
                    let after = resident(at);
                    assert!(before > 6 << 20 && after < 2 << 20, "{before} bytes, then {after}");
                    libc::free(stays);
                }
            };
            std::thread::spawn(check).join().unwrap();
        }
    }
}
