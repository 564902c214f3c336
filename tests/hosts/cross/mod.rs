//! What is made for other platforms than this machine's: built by `scripts/cross`, run under wine and qemu, as it is shipped.

mod dist;
mod plugins;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock};

use softdimo::image::{RgbaImage, read_png};
use support::process::run;
use support::{bundled, root};

use super::{Expected, folder};

/// Programs of one platform, one test after the other: they compile, and qemu takes a core for each thread.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

/// A platform that `scripts/cross` builds for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Abroad {
    Windows,
    Arm,
}

impl Abroad {
    /// As `scripts/cross` and `make TARGET=` say it.
    fn name(self) -> &'static str {
        match self {
            Abroad::Windows => "windows-x86_64",
            Abroad::Arm => "linux-aarch64",
        }
    }

    /// A C compiler, to be called through [`Abroad::tool`].
    fn compiler(self) -> &'static str {
        match self {
            Abroad::Windows => "x86_64-w64-mingw32-gcc",
            Abroad::Arm => "aarch64-linux-gnu-gcc",
        }
    }

    /// A program of the toolchain.
    fn tool(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(root().join("scripts/cross"));
        command.args(["tool", self.name()]).arg(program);
        command
    }

    /// A program of the platform. Nothing tells it where ONNX Runtime lies.
    fn emulated(self, program: &Path) -> Command {
        let mut command = Command::new(root().join("scripts/cross"));
        command.args(["run", self.name()]).arg(program);
        command.env_remove("SOFTDIMO_ORT_LIBRARY").env_remove("LD_LIBRARY_PATH");
        command
    }

    /// The folder of what cargo makes, or finds fresh, in the tests' profile.
    fn built(self) -> PathBuf {
        static BUILT: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
        let built = BUILT[self as usize].get_or_init(|| {
            let variables = run(Command::new(root().join("scripts/cross")).args(["env", self.name()]));
            let value = |name: &str| {
                let line = variables.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
                line.unwrap_or_else(|| panic!("no {name} in {variables}")).to_string()
            };
            run(Command::new(root().join("scripts/cross"))
                .args(["cargo", self.name(), "build", "--quiet", "--locked"])
                .env_remove("LD_LIBRARY_PATH"));
            Path::new(&value("CARGO_TARGET_DIR")).join(value("CARGO_BUILD_TARGET")).join("debug")
        });
        built.clone()
    }

    /// `make WHAT` for the platform, of the tests' build.
    fn make(self, what: &str) -> Command {
        let mut command = Command::new("make");
        command.arg(what).arg(format!("TARGET={}", self.name()));
        command.arg(format!("BUILD={}", self.built().display())).current_dir(root());
        command
    }

    /// The functions that a library exports.
    fn exports(self, library: &Path) -> BTreeSet<String> {
        match self {
            Abroad::Windows => {
                let text = run(self.tool("x86_64-w64-mingw32-objdump").arg("-p").arg(library));
                let (_, names) = text.split_once("[Ordinal/Name Pointer] Table").expect("a table of exports");
                let names = names.lines().skip(1).take_while(|line| line.trim_start().starts_with('['));
                names.map(|line| line.split_whitespace().last().unwrap().to_string()).collect()
            }
            Abroad::Arm => {
                let text = run(self.tool("aarch64-linux-gnu-nm").args(["-D", "--defined-only"]).arg(library));
                text.lines().map(|line| line.split_whitespace().last().unwrap().to_string()).collect()
            }
        }
    }

    /// The libraries that a file needs, in lower case where the system does not tell them apart.
    fn needs(self, file: &Path) -> BTreeSet<String> {
        let (program, mark) = match self {
            Abroad::Windows => ("x86_64-w64-mingw32-objdump", "DLL Name:"),
            Abroad::Arm => ("aarch64-linux-gnu-objdump", "NEEDED"),
        };
        let text = run(self.tool(program).arg("-p").arg(file));
        let names = text.lines().filter_map(|line| line.trim_start().strip_prefix(mark));
        names
            .map(|name| match self {
                Abroad::Windows => name.trim().to_lowercase(),
                Abroad::Arm => name.trim().to_string(),
            })
            .collect()
    }

    /// It needs what every installation of the system has, and `beside`, which is shipped with it.
    fn needs_nothing_else(self, file: &Path, beside: &[&str]) {
        // Of mingw's own libraries, libgcc and winpthreads, no DLL.
        let of_the_system: &[&str] = match self {
            Abroad::Windows => &[
                "advapi32.dll",
                "bcryptprimitives.dll",
                "kernel32.dll",
                "msvcrt.dll",
                "ntdll.dll",
                "ole32.dll",
                "shell32.dll",
                "userenv.dll",
                "ws2_32.dll",
                "api-ms-win-core-synch-l1-2-0.dll",
            ],
            Abroad::Arm => {
                &["libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "ld-linux-aarch64.so.1"]
            }
        };
        let needs = self.needs(file);
        assert!(!needs.is_empty(), "{}", file.display());
        for name in &needs {
            let known = of_the_system.contains(&name.as_str()) || beside.contains(&name.as_str());
            assert!(known, "{}: {name} of {needs:?}", file.display());
        }
    }
}

/// The functions of the header.
fn declared() -> BTreeSet<String> {
    let header = std::fs::read_to_string(root().join("include/softdimo.h")).unwrap();
    let code = header.lines().filter(|line| !line.trim_start().starts_with(['/', '*']));
    let names = code.filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next());
    let names: BTreeSet<String> = names.filter(|n| n.starts_with("softdimo_")).map(String::from).collect();
    assert!(names.len() > 50, "{names:?}");
    names
}

/// Every file and link below a folder, by its place there.
fn files(of: &Path) -> BTreeSet<String> {
    let found =
        run(Command::new("find").args([".", "-not", "-type", "d", "-printf", "%P\n"]).current_dir(of));
    found.lines().map(String::from).collect()
}

/// Another processor and another system compute nearly the same picture.
fn nearly(found: &RgbaImage, expected: &RgbaImage) {
    assert_eq!((found.width(), found.height()), (expected.width(), expected.height()));
    let most = found.data().iter().zip(expected.data()).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(most <= Some(1), "the pictures differ by {most:?} levels");
}

fn is_the_apple(png: &Path) {
    let (picture, _) = read_png(png).unwrap_or_else(|e| panic!("{}: {e}", png.display()));
    nearly(&picture, &Expected::new().picture("red apple", 7));
}
