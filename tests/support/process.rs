//! Programs run to success.

use std::process::Command;

use super::platform::platform;

/// Run a command to success and give back what it printed.
pub fn run(command: &mut Command) -> String {
    let output = match command.output() {
        Ok(output) => output,
        Err(e) => panic!("{}: {e}: is it installed?", command.get_program().display()),
    };
    let (out, err) = (platform().text(&output.stdout), platform().text(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{}\n{out}\n{err}", output.status);
    out
}
