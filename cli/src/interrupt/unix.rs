use super::caught;

/// Have signals end the program, but for those that it was started to ignore, as by `nohup` and in the background of
/// a script. Where no thread can be had, they do so in the system's way.
pub fn watch() {
    let mut signals = vec![libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGXCPU];
    signals.retain(|signal| !is_ignored(*signal));
    let (ready, is_ready) = std::sync::mpsc::channel();
    // Signals are caught by the thread itself: once they are, somebody looks.
    let look = move || {
        let Ok(mut signals) = signal_hook::iterator::Signals::new(signals) else { return };
        drop(ready);
        signals.forever().for_each(caught);
    };
    let _ = std::thread::Builder::new().name("signals".into()).spawn(look);
    // Nothing is ever sent: once the other end is gone, signals are caught, or there is no thread.
    let _: Result<(), _> = is_ready.recv();
}

/// Writing beyond a limit (`ulimit -f`) is an error that is told, after which nothing is left behind; not the end.
pub fn outlive_size_limits() {
    // SAFETY: ignoring a signal needs nothing.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: only asks; the structure is plain data, which the call fills.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}
