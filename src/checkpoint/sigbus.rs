//! Opt-in `SIGBUS` guard: a mapped file that loses pages must not kill the host.
//!
//! Reading a mapped page whose file was truncated (or whose disk failed) raises `SIGBUS`. While at least one
//! guarded mapping is open, a handler looks the address up in a fixed table; inside a guarded range it puts
//! zero pages there, marks the range as poisoned and lets the read continue. Every other `SIGBUS` goes to the
//! handler that was installed before, with the disposition it asked for.
//!
//! A host that installs its own handler *after* ours must chain to it, or the guard is off. The previous
//! handler is put back with the last guard, unless another one has been installed over ours by then.

use crate::error::{Error, Result};

/// Ranges that can be guarded at a time, in the whole process.
pub const SLOTS: usize = 64;

/// Keeps one address range in the table; leaving it is what drop does.
#[derive(Debug)]
pub(super) struct Guard {
    #[cfg_attr(not(unix), allow(dead_code))]
    slot: usize,
}

#[cfg(not(unix))]
impl Guard {
    pub(super) fn register(_: &[u8]) -> Result<Guard> {
        Err(Error::Unsupported {
            what: "a guarded mapping".into(),
            reason: "SIGBUS exists on Unix only; read the file into memory instead".into(),
        })
    }

    pub(super) fn poisoned(&self) -> bool {
        false
    }
}

#[cfg(unix)]
mod unix {
    use std::mem::MaybeUninit;
    use std::ptr;
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
    use std::sync::{Mutex, PoisonError};

    use super::*;

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
        pub(in super::super) fn register(bytes: &[u8]) -> Result<Guard> {
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
        pub(in super::super) fn poisoned(&self) -> bool {
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
            ours.sa_flags = libc::SA_SIGINFO
                | libc::SA_ONSTACK
                | (previous.sa_flags & (libc::SA_NODEFER | libc::SA_RESTART));
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
}

// A handler is process-wide state and the expected outcome is sometimes a death, so every case runs in a
// process of its own: the test binary again, with the case's name in the environment.
#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::mapping::Mapping;

    const CASE: &str = "SOFTDIMO_TEST_SIGBUS_CASE";
    const LEN: usize = 5 * 65536 + 17;

    fn run(case: &str) -> ExitStatus {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "checkpoint::sigbus::tests::child", "--nocapture", "--test-threads=1"]);
        child.env(CASE, case).output().unwrap().status
    }

    fn file() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![9u8; LEN]).unwrap();
        file
    }

    fn truncate(file: &tempfile::NamedTempFile, len: u64) {
        std::fs::OpenOptions::new().write(true).open(file.path()).unwrap().set_len(len).unwrap();
    }

    static SEEN: AtomicUsize = AtomicUsize::new(0);

    extern "C" fn exit_with_address_flag(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: called by the kernel or by a chaining handler with a valid siginfo.
        unsafe { libc::_exit(if (*info).si_addr().is_null() { 41 } else { 42 }) }
    }

    extern "C" fn count(_: i32) {
        SEEN.fetch_add(1, Ordering::SeqCst);
    }

    fn install(handler: usize, flags: i32) {
        // SAFETY: test process; the handler matches the flags.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            action.sa_flags = flags;
            assert_eq!(libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()), 0);
        }
    }

    fn current() -> usize {
        // SAFETY: test process; only asks.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            assert_eq!(libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut action), 0);
            action.sa_sigaction
        }
    }

    fn last_byte(mapping: &Mapping) -> u8 {
        // SAFETY: in bounds; volatile so that the access is really made.
        unsafe { std::ptr::read_volatile(mapping.bytes().as_ptr().add(LEN - 1)) }
    }

    /// Does nothing unless [`run`] started this process.
    #[test]
    fn child() {
        let Ok(case) = std::env::var(CASE) else { return };
        let file = file();
        match case.as_str() {
            "unguarded" => {
                let mapping = Mapping::map(file.path()).unwrap();
                truncate(&file, 0);
                last_byte(&mapping);
            }
            "survives" => {
                install(libc::SIG_DFL, 0);
                let mapping = Mapping::map_guarded(file.path()).unwrap();
                let healthy = Mapping::map_guarded(self::file().path()).unwrap();
                truncate(&file, 65536);
                assert_eq!(mapping.bytes()[65535], 9);
                assert_eq!(last_byte(&mapping), 0);
                assert!(mapping.bytes()[65536..].iter().all(|&b| b == 0));
                assert_eq!(mapping.bytes()[65535], 9);
                assert!(mapping.recheck().is_err());
                // Growing the file again does not bring the pages back.
                truncate(&file, LEN as u64);
                let message = mapping.recheck().unwrap_err().to_string();
                assert!(message.contains("mapped pages: expected bytes that stay readable"), "{message}");
                healthy.recheck().unwrap();
                assert_eq!(last_byte(&healthy), 9);
                drop(mapping);
                drop(healthy);
                assert_eq!(current(), libc::SIG_DFL);
            }
            "many threads" => {
                let mapping = Mapping::map_guarded(file.path()).unwrap();
                truncate(&file, 0);
                std::thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| assert!(mapping.bytes().iter().all(|&b| b == 0)));
                    }
                });
                assert!(mapping.recheck().is_err());
            }
            "previous handler" => {
                let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
                    exit_with_address_flag;
                install(handler as *const () as usize, libc::SA_SIGINFO);
                let guarded = Mapping::map_guarded(self::file().path()).unwrap();
                let other = Mapping::map(file.path()).unwrap();
                truncate(&file, 0);
                last_byte(&guarded);
                last_byte(&other);
            }
            "default" => {
                install(libc::SIG_DFL, 0);
                let _guarded = Mapping::map_guarded(self::file().path()).unwrap();
                let other = Mapping::map(file.path()).unwrap();
                truncate(&file, 0);
                last_byte(&other);
            }
            "ignored" => {
                install(libc::SIG_IGN, 0);
                let _guarded = Mapping::map_guarded(self::file().path()).unwrap();
                // SAFETY: no preconditions.
                unsafe { libc::raise(libc::SIGBUS) };
                let other = Mapping::map(file.path()).unwrap();
                truncate(&file, 0);
                last_byte(&other);
            }
            "sent" => {
                install(count as extern "C" fn(i32) as *const () as usize, 0);
                let guarded = Mapping::map_guarded(file.path()).unwrap();
                // SAFETY: no preconditions.
                unsafe { libc::raise(libc::SIGBUS) };
                assert_eq!(SEEN.load(Ordering::SeqCst), 1);
                guarded.recheck().unwrap();
                drop(guarded);
                assert_eq!(current(), count as extern "C" fn(i32) as *const () as usize);
                install(libc::SIG_DFL, 0);
                let _guarded = Mapping::map_guarded(file.path()).unwrap();
                // SAFETY: no preconditions.
                unsafe { libc::raise(libc::SIGBUS) };
            }
            "handler on top" => {
                install(libc::SIG_DFL, 0);
                let guarded = Mapping::map_guarded(file.path()).unwrap();
                let ours = current();
                install(count as extern "C" fn(i32) as *const () as usize, 0);
                drop(guarded);
                assert_eq!(current(), count as extern "C" fn(i32) as *const () as usize);
                // The host takes its own handler away and finds ours as it left it.
                install(ours, libc::SA_SIGINFO | libc::SA_ONSTACK);
                drop(Mapping::map_guarded(file.path()).unwrap());
                assert_eq!(current(), libc::SIG_DFL);
            }
            "table" => {
                let all: Vec<_> =
                    (0..super::SLOTS).map(|_| Mapping::map_guarded(file.path()).unwrap()).collect();
                let message = Mapping::map_guarded(file.path()).unwrap_err().to_string();
                assert!(message.contains("all 64 places"), "{message}");
                drop(all);
                Mapping::map_guarded(file.path()).unwrap();
            }
            other => panic!("no such case: {other}"),
        }
    }

    #[test]
    fn unguarded_truncation_kills() {
        assert_eq!(run("unguarded").signal(), Some(libc::SIGBUS));
    }

    #[test]
    fn guarded_truncation_survives_and_is_reported() {
        assert_eq!(run("survives").code(), Some(0));
    }

    #[test]
    fn threads_fault_together() {
        assert_eq!(run("many threads").code(), Some(0));
    }

    #[test]
    fn other_faults_reach_the_previous_handler() {
        assert_eq!(run("previous handler").code(), Some(42));
        assert_eq!(run("default").signal(), Some(libc::SIGBUS));
        assert_eq!(run("ignored").signal(), Some(libc::SIGBUS));
    }

    #[test]
    fn sent_signals_reach_the_previous_handler() {
        assert_eq!(run("sent").signal(), Some(libc::SIGBUS));
    }

    #[test]
    fn a_handler_installed_later_is_left_alone() {
        assert_eq!(run("handler on top").code(), Some(0));
    }

    #[test]
    fn the_table_is_finite_and_reusable() {
        assert_eq!(run("table").code(), Some(0));
    }
}
