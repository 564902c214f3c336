//! ONNX Runtime's static objects live as long as the process. At `exit()` a C++ library destroys them one by one, in
//! whatever other threads are inside it, and a thread that is then inside dies of it. Objects built on first use
//! register their destructors with `__cxa_atexit` at that moment; once the library is loaded, those calls of its own
//! lead to [`keep_alive`], which registers nothing. Objects it builds while it is loaded are destroyed as ever, after
//! [`super::exit`] has waited.
//!
//! glibc on x86-64 and ARM64: other loaders leave the pointers of the dynamic section relative, other processors have
//! other relocations. Elsewhere nothing is changed.

use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod elf {
    #![allow(unsafe_code)]

    use std::ffi::{CStr, c_int, c_void};

    use libc::{Elf64_Phdr, Elf64_Rela, Elf64_Sym, dl_phdr_info};

    // Tags of the dynamic section and types of relocation, of the System V ABI and its processor supplements.
    const DT_NULL: u64 = 0;
    const DT_PLTRELSZ: u64 = 2;
    const DT_STRTAB: u64 = 5;
    const DT_SYMTAB: u64 = 6;
    const DT_RELA: u64 = 7;
    const DT_RELASZ: u64 = 8;
    const DT_JMPREL: u64 = 23;
    /// Relocations whose slot holds a function's address: GLOB_DAT and JUMP_SLOT.
    const SLOTS: [u32; 2] = if cfg!(target_arch = "x86_64") { [6, 7] } else { [1025, 1026] };

    /// What stands in the slots of `__cxa_atexit`: success, and the destructor is never called.
    extern "C" fn keep_alive(_: *mut c_void, _: *mut c_void, _: *mut c_void) -> c_int {
        0
    }

    struct Search {
        base: usize,
        patched: usize,
    }

    /// Have no static object that the library at `base` builds from now on be destroyed at exit. How many slots were
    /// changed.
    ///
    /// # Safety
    /// `base` is the load address (`dli_fbase`) of a library that is never unloaded.
    pub unsafe fn keep_statics(base: *const c_void) -> usize {
        let mut search = Search { base: base as usize, patched: 0 };
        // SAFETY: the callback has the type asked for, and `search` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
        search.patched
    }

    unsafe extern "C" fn visit(info: *mut dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
        // SAFETY: `search` is that of `keep_statics`; the loader hands out a valid `info` and program headers.
        let (search, info) = unsafe { (&mut *search.cast::<Search>(), &*info) };
        // SAFETY: as above.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let load = info.dlpi_addr as usize;
        let first = headers.iter().find(|h| h.p_type == libc::PT_LOAD);
        if first.is_none_or(|h| load.wrapping_add((h.p_vaddr & !0xfff) as usize) != search.base) {
            return 0;
        }
        // SAFETY: the headers are those of the module at `load`.
        search.patched = unsafe { patch(load, headers) };
        1
    }

    unsafe fn patch(load: usize, headers: &[Elf64_Phdr]) -> usize {
        let Some(dynamic) = headers.iter().find(|h| h.p_type == libc::PT_DYNAMIC) else { return 0 };
        let mut tags = [0_u64; 24];
        let mut entry = load.wrapping_add(dynamic.p_vaddr as usize) as *const [u64; 2];
        // SAFETY: the dynamic section of a loaded module is mapped and ends with DT_NULL.
        unsafe {
            while (*entry)[0] != DT_NULL {
                if let Some(value) = tags.get_mut((*entry)[0] as usize) {
                    *value = (*entry)[1];
                }
                entry = entry.add(1);
            }
        }
        let tag = |tag: u64| tags[tag as usize] as usize;
        let (symbols, names) = (tag(DT_SYMTAB) as *const Elf64_Sym, tag(DT_STRTAB));
        if symbols.is_null() || names == 0 {
            return 0;
        }
        let mut patched = 0;
        for (table, bytes) in [(DT_JMPREL, DT_PLTRELSZ), (DT_RELA, DT_RELASZ)] {
            let (table, bytes) = (tag(table) as *const Elf64_Rela, tag(bytes));
            if table.is_null() {
                continue;
            }
            // SAFETY: glibc has made the pointers of the dynamic section absolute; the tables are mapped for as long as
            // the module, and have the sizes that the section says.
            let relocations = unsafe { std::slice::from_raw_parts(table, bytes / size_of::<Elf64_Rela>()) };
            for relocation in relocations.iter().filter(|r| SLOTS.contains(&(r.r_info as u32))) {
                // SAFETY: a relocation of the module names one of its symbols, whose name is NUL-terminated.
                let name = unsafe {
                    let symbol = &*symbols.add((relocation.r_info >> 32) as usize);
                    CStr::from_ptr((names + symbol.st_name as usize) as *const _)
                };
                if name == c"__cxa_atexit" {
                    let slot = load.wrapping_add(relocation.r_offset as usize);
                    // SAFETY: the slot holds the address of a function of this type.
                    patched += usize::from(unsafe { replace(slot, headers, load) });
                }
            }
        }
        patched
    }

    /// Write the address of [`keep_alive`] into a slot, which may lie where the loader made memory read-only.
    unsafe fn replace(slot: usize, headers: &[Elf64_Phdr], load: usize) -> bool {
        // SAFETY: asks for a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let start = slot & !(page - 1);
        // As the loader rounds: the page in which the part ends has data behind it that must stay writable.
        let read_only = headers.iter().filter(|h| h.p_type == libc::PT_GNU_RELRO).any(|h| {
            let from = load.wrapping_add(h.p_vaddr as usize);
            (from & !(page - 1)..(from + h.p_memsz as usize) & !(page - 1)).contains(&start)
        });
        // SAFETY: one page of the module, which holds data and no code: it stays readable throughout.
        unsafe {
            if read_only
                && libc::mprotect(start as *mut c_void, page, libc::PROT_READ | libc::PROT_WRITE) != 0
            {
                return false;
            }
            (slot as *mut usize).write_volatile(keep_alive as *const () as usize);
            if read_only {
                libc::mprotect(start as *mut c_void, page, libc::PROT_READ);
            }
        }
        true
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[allow(unsafe_code)]
fn redirect(library: &libloading::Library) -> bool {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the address is of a function of the library; a non-zero result means that `info` is filled in.
    unsafe {
        let Ok(symbol) = library.get::<unsafe extern "C" fn()>(b"OrtGetApiBase") else { return false };
        libc::dladdr(*symbol as *const libc::c_void, info.as_mut_ptr()) != 0
            && elf::keep_statics(info.assume_init().dli_fbase) > 0
    }
}

#[cfg(not(all(
    target_os = "linux",
    target_env = "gnu",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
fn redirect(_: &libloading::Library) -> bool {
    false
}

static KEPT: AtomicBool = AtomicBool::new(false);

/// Have no static object that the library builds from now on be destroyed at exit, where this is known to work. To be
/// called once the library cannot be unloaded any more.
pub(super) fn keep(library: &libloading::Library) {
    KEPT.store(redirect(library), Ordering::SeqCst);
}

/// Whether it does.
pub(crate) fn kept() -> bool {
    KEPT.load(Ordering::SeqCst)
}
