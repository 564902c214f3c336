//! What the program says. Neither a closed pipe nor a full disk may end it before its files are written.

use std::borrow::Cow;
use std::fmt::Arguments;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;

use softdimo::{Error, Result};

use crate::printed::printed;

/// A line of results, to stdout: `say!("{x}")?`.
macro_rules! say {
    ($($words:tt)*) => { $crate::say::say_line(format_args!($($words)*)) };
}

/// A line of messages, to stderr. Where nobody can read it, it is lost.
macro_rules! tell {
    ($($words:tt)*) => { $crate::say::tell_line(format_args!($($words)*)) };
}

pub(crate) use {say, tell};

/// See [`say!`]. Whoever closed the pipe wants no more: that is no error. A terminal gets nothing that it would obey;
/// programs get what there is.
pub fn say_line(words: Arguments<'_>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = match out.is_terminal() {
        true => writeln!(out, "{}", printed(&words.to_string())),
        false => writeln!(out, "{words}"),
    };
    match written {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("stdout", e)),
        _ => Ok(()),
    }
}

/// Help, the version, or what is wrong with the arguments, which may hold what a terminal would obey.
pub fn usage(message: &clap::Error) -> Result<ExitCode> {
    let plain = message.render().to_string();
    match printed(&plain) {
        Cow::Owned(escaped) => tell_line(format_args!("{}", escaped.trim_end())),
        Cow::Borrowed(_) => match message.print() {
            Err(e) if e.kind() != ErrorKind::BrokenPipe => return Err(Error::io("stdout", e)),
            _ => {}
        },
    }
    Ok(ExitCode::from(message.exit_code() as u8))
}

/// See [`tell!`].
pub fn tell_line(words: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printed(&words.to_string()));
}
