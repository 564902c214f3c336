//! A process of this program that measures, and prints what it found as JSON.

use std::process::{Command, ExitCode, Stdio};

use serde::de::DeserializeOwned;
use softdimo::{Error, Result};

/// This program, with nothing said to it yet.
///
/// # Errors
/// That its file is not known.
pub fn command() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().map_err(|e| Error::io("this program", e))?))
}

/// What a process measured of `what`. The inner result is its exit status, where it has said on stderr why it failed.
///
/// # Errors
/// That it cannot be started, ended by a signal, or printed something else.
pub fn measured<T: DeserializeOwned>(
    mut command: Command,
    what: &str,
) -> Result<std::result::Result<T, ExitCode>> {
    let program = command.get_program().to_owned();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|e| Error::io(&program, e))?;
    let broken = |why: String| Error::io(&program, std::io::Error::other(why));
    match output.status.code() {
        Some(0) => {
            serde_json::from_slice(&output.stdout).map(Ok).map_err(|e| broken(format!("no measurement: {e}")))
        }
        Some(code) => Ok(Err(ExitCode::from(code as u8))),
        None => Err(broken(format!("the process of '{what}' ended: {}", output.status))),
    }
}
