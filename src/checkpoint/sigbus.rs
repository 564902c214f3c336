//! Opt-in `SIGBUS` guard: a mapped file that loses pages must not kill the host.
//!
//! Reading a mapped page whose file was truncated (or whose disk failed) raises `SIGBUS`. While at least one
//! guarded mapping is open, a handler looks the address up in a fixed table; inside a guarded range it puts
//! zero pages there, marks the range as poisoned and lets the read continue. Every other `SIGBUS` goes to the
//! handler that was installed before, with the disposition it asked for.
//!
//! A host that installs its own handler *after* ours must chain to it, or the guard is off. The previous
//! handler is put back with the last guard, unless another one has been installed over ours by then.

use std::fs::File;
use std::mem::MaybeUninit;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// Ranges that can be guarded at a time, in the whole process.
pub const SLOTS: usize = 64;

/// Keeps one address range in the table; leaving it is what drop does.
#[derive(Debug)]
pub(super) struct Guard {
    slot: usize,
}

/// The file to be mapped, where it can be: here, always.
pub(super) fn open(path: &Path) -> Result<Option<File>> {
    File::open(path).map(Some).map_err(|e| Error::io(path, e))
}

/// One guarded range. Written under [`INSTALL`], read by the handler without any lock.
///
/// `version` is odd while the range is being changed. The handler skips a slot whose version is odd or
/// moves while it reads: the faulting thread borrows its mapping, so its own slot stands still.
struct Slot {
    version: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    poisoned: AtomicBool,
}

impl Slot {
    const fn free() -> Slot {
        Slot {
            version: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Stores a range; `0..0` frees the slot. Call with [`INSTALL`] held.
    fn set(&self, start: usize, end: usize) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.start.store(start, Ordering::SeqCst);
        self.end.store(end, Ordering::SeqCst);
        self.poisoned.store(false, Ordering::SeqCst);
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    /// The end of the range when it holds `address`. Async-signal-safe.
    fn end_if_holds(&self, address: usize) -> Option<usize> {
        let version = self.version.load(Ordering::SeqCst);
        let range = self.start.load(Ordering::SeqCst)..self.end.load(Ordering::SeqCst);
        let stable = version.is_multiple_of(2) && self.version.load(Ordering::SeqCst) == version;
        (stable && range.contains(&address)).then_some(range.end)
    }
}

static TABLE: [Slot; SLOTS] = [const { Slot::free() }; SLOTS];
static PAGE: AtomicUsize = AtomicUsize::new(4096);

// The disposition to chain to, split into words so that the handler can read it.
static PREVIOUS_HANDLER: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);
static PREVIOUS_FLAGS: AtomicI32 = AtomicI32::new(0);

/// Serialises everything but the handler.
static INSTALL: Mutex<Installed> = Mutex::new(Installed { previous: None, guards: 0 });

struct Installed {
    /// What our handler replaced; `None` while it is not installed.
    previous: Option<libc::sigaction>,
    guards: usize,
}

impl Guard {
    /// Guards the pages of `bytes`, a live file mapping that outlives the guard.
    pub(super) fn register(bytes: &[u8]) -> Result<Guard> {
        let mut installed = INSTALL.lock().unwrap_or_else(PoisonError::into_inner);
        let free = TABLE.iter().position(|slot| slot.end.load(Ordering::SeqCst) == 0);
        let slot = free.ok_or_else(|| Error::Unsupported {
            what: "a guarded mapping".into(),
            reason: format!("all {SLOTS} places of the SIGBUS guard are taken; close one or map without"),
        })?;
        if installed.previous.is_none() {
            installed.previous = Some(install()?);
        }
        // SAFETY: sysconf has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).unwrap_or(4096).max(1);
        PAGE.store(page, Ordering::SeqCst);
        let start = bytes.as_ptr() as usize;
        // An empty file has one mapped page too, and a free slot is one that ends at 0.
        TABLE[slot].set(start, start + bytes.len().max(1).next_multiple_of(page));
        installed.guards += 1;
        Ok(Guard { slot })
    }

    /// True when pages of this range were lost and now read as zeros.
    pub(super) fn poisoned(&self) -> bool {
        TABLE[self.slot].poisoned.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut installed = INSTALL.lock().unwrap_or_else(PoisonError::into_inner);
        TABLE[self.slot].set(0, 0);
        installed.guards -= 1;
        if installed.guards > 0 {
            return;
        }
        if let Some(previous) = installed.previous.take()
            && !restore(&previous)
        {
            // Somebody stacked a handler on ours and may call it: keep what it chains to.
            installed.previous = Some(previous);
        }
    }
}

fn install() -> Result<libc::sigaction> {
    let previous = current()?;
    // Known before our handler can run. A handler installed between the two calls is not seen, which
    // is why the second one's answer is stored again.
    remember(&previous);
    // SAFETY: zeroed is a valid sigaction; the handler has the SA_SIGINFO signature.
    let replaced = unsafe {
        let mut ours: libc::sigaction = std::mem::zeroed();
        ours.sa_sigaction = our_handler();
        // The previous handler's mask, SA_NODEFER and SA_RESTART hold for ours too.
        ours.sa_flags =
            libc::SA_SIGINFO | libc::SA_ONSTACK | (previous.sa_flags & (libc::SA_NODEFER | libc::SA_RESTART));
        ours.sa_mask = previous.sa_mask;
        let mut replaced = MaybeUninit::<libc::sigaction>::uninit();
        if libc::sigaction(libc::SIGBUS, &ours, replaced.as_mut_ptr()) != 0 {
            return Err(failed());
        }
        replaced.assume_init()
    };
    remember(&replaced);
    Ok(replaced)
}

fn current() -> Result<libc::sigaction> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: only asks; the kernel fills the struct when it returns 0.
    unsafe {
        match libc::sigaction(libc::SIGBUS, ptr::null(), action.as_mut_ptr()) {
            0 => Ok(action.assume_init()),
            _ => Err(failed()),
        }
    }
}

/// Puts `previous` back if our handler is still the current one.
fn restore(previous: &libc::sigaction) -> bool {
    let ours = current().is_ok_and(|action| action.sa_sigaction == our_handler());
    // SAFETY: `previous` is what the kernel gave us.
    ours && unsafe { libc::sigaction(libc::SIGBUS, previous, ptr::null_mut()) } == 0
}

fn remember(action: &libc::sigaction) {
    PREVIOUS_FLAGS.store(action.sa_flags, Ordering::SeqCst);
    PREVIOUS_HANDLER.store(action.sa_sigaction, Ordering::SeqCst);
}

fn failed() -> Error {
    Error::internal(format!("sigaction(SIGBUS): {}", std::io::Error::last_os_error()))
}

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

fn our_handler() -> libc::sighandler_t {
    handle as Handler as *const () as libc::sighandler_t
}

/// The handler: atomics, mmap, sigaction and raise only, and errno is left as found.
extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the errno location is always valid for the calling thread.
    let errno = unsafe { *errno_location() };
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // Any other code is a signal somebody sent, whose "address" is not one.
    if !(lost_page(code) && cover(address)) {
        chain(signal, code, info, context);
    }
    // SAFETY: as above.
    unsafe { *errno_location() = errno };
}

fn lost_page(code: libc::c_int) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if code == libc::BUS_MCEERR_AR {
        return true;
    }
    code == libc::BUS_ADRERR
}

/// Puts zero pages from the faulting page to the end of its range. False outside every guarded range.
///
/// The whole remainder, because truncation loses the tail: one signal instead of one for each page.
fn cover(address: usize) -> bool {
    for slot in &TABLE {
        let Some(end) = slot.end_if_holds(address) else { continue };
        let page = address & !(PAGE.load(Ordering::SeqCst) - 1);
        // Before the pages change, so that whoever reads a zero can also see the flag.
        slot.poisoned.store(true, Ordering::SeqCst);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED | libc::MAP_NORESERVE;
        // SAFETY: [page, end) lies inside a mapping this process owns and keeps until its guard is gone.
        let zeros = unsafe { libc::mmap(page as *mut _, end - page, libc::PROT_READ, flags, -1, 0) };
        return zeros != libc::MAP_FAILED;
    }
    false
}

/// Does what the kernel would have done had our handler not been there.
fn chain(signal: libc::c_int, code: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let handler = PREVIOUS_HANDLER.load(Ordering::SeqCst);
    let flags = PREVIOUS_FLAGS.load(Ordering::SeqCst);
    let raised_by_access = lost_page(code) || code == libc::BUS_ADRALN || code == libc::BUS_OBJERR;
    match handler {
        libc::SIG_IGN if !raised_by_access => {}
        // The kernel does not let a process ignore its own faulting access: it dies.
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: a zeroed sigaction is SIG_DFL without flags. A faulting access faults again after
            // return; a sent signal has to be sent again.
            unsafe {
                let default: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, &default, ptr::null_mut());
                if !raised_by_access {
                    libc::raise(signal);
                }
            }
        }
        function => {
            if flags & libc::SA_RESETHAND != 0 {
                PREVIOUS_HANDLER.store(libc::SIG_DFL, Ordering::SeqCst);
            }
            // SAFETY: the host installed this function with these flags, so it has this signature.
            unsafe {
                if flags & libc::SA_SIGINFO != 0 {
                    let function: Handler = std::mem::transmute(function);
                    function(signal, info, context);
                } else {
                    let function: extern "C" fn(libc::c_int) = std::mem::transmute(function);
                    function(signal);
                }
            }
        }
    }
}

#[cfg(any(target_os = "android", target_os = "netbsd", target_os = "openbsd"))]
use libc::__errno as errno_location;
#[cfg(any(target_os = "linux", target_os = "emscripten", target_os = "redox"))]
use libc::__errno_location as errno_location;
#[cfg(any(target_vendor = "apple", target_os = "freebsd", target_os = "dragonfly"))]
use libc::__error as errno_location;
