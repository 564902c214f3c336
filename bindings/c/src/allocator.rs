//! The allocator of the shared library: the system's, and behind it a reserve. What does not fit into a full system is
//! served from there, and [`shortage`] is told, so that the call ends with an error instead of the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Once;

use linked_list_allocator::LockedHeap;
use softdimo::shortage;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

struct Allocator;

/// Bytes of the reserve. Address space: pages that were never used take no memory.
const RESERVE: usize = 8 << 20;

#[repr(align(4096))]
struct Arena(UnsafeCell<[MaybeUninit<u8>; RESERVE]>);

// SAFETY: only the heap below, behind its lock, touches the bytes.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([MaybeUninit::uninit(); RESERVE]));
static HEAP: LockedHeap = LockedHeap::empty();

/// Blocks of the reserve are so many bytes, or a multiple: what is cut off one can always go back.
const UNIT: usize = 16;

/// What the heap is asked for a block of this layout.
fn in_units(layout: Layout) -> Layout {
    let size = layout.size().max(1).next_multiple_of(UNIT);
    // Too long for a layout is too long for the reserve.
    Layout::from_size_align(size, layout.align().max(UNIT)).unwrap_or(layout)
}

/// From the reserve; NULL once that is spent too, and for what its asker can do without: the reserve is for what ends the
/// process otherwise.
fn spend(layout: Layout) -> *mut u8 {
    static READY: Once = Once::new();
    if shortage::is_fallible() {
        return std::ptr::null_mut();
    }
    // SAFETY: once, on memory that is static and nobody else's.
    READY.call_once(|| unsafe { HEAP.lock().init(ARENA.0.get().cast(), RESERVE) });
    shortage::note();
    HEAP.lock().allocate_first_fit(in_units(layout)).map_or(std::ptr::null_mut(), NonNull::as_ptr)
}

/// Cut a block of the reserve down to `size` bytes where it lies. Whether `size` is no longer than it is.
///
/// # Safety
/// The block was taken with [`spend`] and this layout; from here on its layout is one of `size` bytes.
unsafe fn cut(block: *mut u8, layout: Layout, size: usize) -> bool {
    // SAFETY: as in `realloc`, the only caller: no overflow.
    let kept = in_units(unsafe { Layout::from_size_align_unchecked(size, layout.align()) }).size();
    let Some(rest) = in_units(layout).size().checked_sub(kept) else { return false };
    if rest > 0 {
        // SAFETY: the end of the block, in units as all blocks are, is nobody's any more.
        unsafe {
            let end = NonNull::new_unchecked(block.add(kept));
            HEAP.lock().deallocate(end, Layout::from_size_align_unchecked(rest, UNIT));
        }
    }
    true
}

fn is_reserve(pointer: *mut u8) -> bool {
    let start = ARENA.0.get() as usize;
    (start..start + RESERVE).contains(&(pointer as usize))
}

// SAFETY: every block is the system's or the heap's over the arena, told apart by its address, and goes back to where it came
// from with the layout it was taken with. Nothing here unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() { spend(layout) } else { block }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above; a block of the reserve has `layout.size()` bytes.
        unsafe {
            let block = System.alloc_zeroed(layout);
            if !block.is_null() {
                return block;
            }
            let block = spend(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match NonNull::new(block) {
            // SAFETY: it was allocated there, with this layout.
            Some(reserved) if is_reserve(block) => unsafe {
                HEAP.lock().deallocate(reserved, in_units(layout))
            },
            // SAFETY: the system's, with this layout.
            _ => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise: `size`, rounded up to the alignment, does not overflow.
        let grown = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: as above; both blocks are at least as long as what is copied.
        unsafe {
            if !is_reserve(block) {
                let moved = System.realloc(block, layout, size);
                if !moved.is_null() {
                    return moved;
                }
            }
            let mut moved = System.alloc(grown);
            if moved.is_null() {
                if is_reserve(block) && cut(block, layout, size) {
                    return block;
                }
                moved = spend(grown);
            }
            if !moved.is_null() {
                std::ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_the_reserve_grow_and_go_back() {
        let free = || HEAP.lock().free();
        let layout = |size| Layout::from_size_align(size, 16).unwrap();
        let first = spend(layout(1000));
        let before = free();
        assert!(is_reserve(first) && shortage::check("a test").is_err());
        // SAFETY: blocks of these layouts, each given back once.
        unsafe {
            let block = spend(layout(100));
            block.write_bytes(7, 100);
            let moved = ALLOCATOR.realloc(block, layout(100), 5000);
            assert!(!is_reserve(moved), "back in the system's heap where that has room");
            assert_eq!(std::slice::from_raw_parts(moved, 100), [7; 100]);
            ALLOCATOR.dealloc(moved, layout(5000));
            assert_eq!(free(), before);
            assert!(spend(layout(RESERVE)).is_null());
            // Shorter where it lies, and every byte goes back.
            let block = spend(layout(999));
            assert!(cut(block, layout(999), 9) && cut(block, layout(9), 9) && !cut(block, layout(9), 90));
            ALLOCATOR.dealloc(block, layout(9));
            assert_eq!(free(), before);
            ALLOCATOR.dealloc(first, layout(1000));
        }
        shortage::forget();
    }
}
