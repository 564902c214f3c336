//! What the program says. Neither a closed pipe nor a full disk may end it before its files are written.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

use softdimo::{Error, Result};

/// A line of results, to stdout: `say!("{x}")?`.
macro_rules! say {
    ($($words:tt)*) => { $crate::say::say_line(format_args!($($words)*)) };
}

/// A line of messages, to stderr. Where nobody can read it, it is lost.
macro_rules! tell {
    ($($words:tt)*) => { $crate::say::tell_line(format_args!($($words)*)) };
}

pub(crate) use {say, tell};

/// See [`say!`]. Whoever closed the pipe wants no more: that is no error.
pub fn say_line(words: Arguments<'_>) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{words}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("stdout", e)),
        _ => Ok(()),
    }
}

/// See [`tell!`].
pub fn tell_line(words: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{words}");
}
