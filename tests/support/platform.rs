//! The platform that the C and C++ programs of the tests are built for and run on: this machine's, or the one of `scripts/cross`
//! that `SOFTDIMO_PLATFORM` names. What differs between them is here; the tests themselves run on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::process::run;
use super::{built, root};

/// A platform, and what differs on it.
pub struct Platform {
    /// As `scripts/cross` names it; none: this machine.
    pub name: Option<&'static str>,
    pub windows: bool,
    /// As `std::env::consts::ARCH` names it.
    pub machine: &'static str,
    /// The shared library, and the file that programs are linked to.
    pub shared: &'static str,
    pub linked: &'static str,
    /// The name of ONNX Runtime's file.
    pub runtime: &'static str,
    /// What the names of programs end with.
    pub program: &'static str,
    compilers: [&'static str; 2],
    options: &'static [&'static str],
    libraries: &'static [&'static str],
}

const HOST: Platform = Platform {
    name: None,
    windows: false,
    machine: std::env::consts::ARCH,
    shared: "libsoftdimo.so",
    linked: "libsoftdimo.so",
    runtime: "libonnxruntime.so",
    program: "",
    compilers: ["cc", "c++"],
    options: &[],
    libraries: &["-lsoftdimo", "-pthread", "-lm", "-ldl"],
};

const PLATFORMS: [Platform; 3] = [
    HOST,
    Platform {
        name: Some("linux-aarch64"),
        machine: "aarch64",
        compilers: ["aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++"],
        ..HOST
    },
    Platform {
        name: Some("windows-x86_64"),
        windows: true,
        machine: "x86_64",
        shared: "softdimo.dll",
        linked: "libsoftdimo.dll.a",
        runtime: "onnxruntime.dll",
        program: ".exe",
        compilers: ["x86_64-w64-mingw32-gcc-posix", "x86_64-w64-mingw32-g++-posix"],
        // printf as C99 has it, in C++ too.
        options: &["-D__USE_MINGW_ANSI_STDIO=1"],
        // A program needs no DLL beside the library: mingw's own are linked into it.
        libraries: &["-lsoftdimo.dll", "-static", "-pthread", "-lm"],
    },
];

/// The platform of this run.
pub fn platform() -> &'static Platform {
    static CHOSEN: OnceLock<&Platform> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let chosen = std::env::var("SOFTDIMO_PLATFORM").ok().filter(|name| !name.is_empty());
        PLATFORMS.iter().find(|p| p.name == chosen.as_deref()).unwrap_or_else(|| {
            let names: Vec<_> = PLATFORMS.iter().filter_map(|p| p.name).collect();
            panic!("SOFTDIMO_PLATFORM: expected nothing or one of {names:?}, found {chosen:?}")
        })
    })
}

impl Platform {
    /// What `scripts/cross env` says.
    fn environment(&self) -> &'static [(String, String)] {
        static LINES: OnceLock<Vec<(String, String)>> = OnceLock::new();
        let Some(name) = self.name else { return &[] };
        LINES.get_or_init(|| {
            let text = run(cross().args(["env", name]));
            text.lines().filter_map(|l| l.split_once('=')).map(|(n, v)| (n.into(), v.into())).collect()
        })
    }

    /// ONNX Runtime for programs: `make runtime` fetches this machine's, `scripts/cross install` the others'.
    pub fn runtime(&self) -> PathBuf {
        let Some(name) = self.name else { return crate::runtime() };
        let ours = |line: &&(String, String)| line.0 == "CROSS";
        let (_, cross) = self.environment().iter().find(ours).expect("the folder of scripts/cross");
        Path::new(cross).join("onnxruntime").join(name).join(self.runtime)
    }

    /// Cargo, to build what the tests use with the profile of the running test: the workspace, elsewhere without the C++ bridge.
    pub fn build(&self) -> Command {
        let Some(name) = self.name else {
            let mut cargo = built::cargo("build");
            cargo.args(["--locked", "--workspace"]);
            return cargo;
        };
        let mut cargo = cross();
        cargo.args(["cargo", name, "build", "--quiet", "--locked", "--profile", &built::profile()]);
        cargo
    }

    /// The C or C++ compiler of a platform of `scripts/cross`, `cc` or `c++`; nothing of this machine, where variables name it.
    pub fn compiler(&self, name: &str) -> Option<Command> {
        self.name?;
        let mut command = Command::new(self.compilers[usize::from(name == "c++")]);
        command.envs(self.environment().iter().map(|(n, v)| (n, v))).args(self.options);
        Some(command)
    }

    /// Link to the shared library in `folder`.
    pub fn link(&self, command: &mut Command, folder: &Path) {
        command.arg(format!("-L{}", folder.display())).args(self.libraries);
    }

    /// A program to be run, with the shared library that lies in `folder`.
    pub fn run(&self, program: &Path, folder: &Path) -> Command {
        let mut command = match self.name {
            None => Command::new(program),
            Some(name) => {
                let mut command = cross();
                command.args(["run", name]).arg(program);
                let ours = |line: &&(String, String)| line.0 == "SOFTDIMO_ORT_LIBRARY";
                let (name, value) =
                    self.environment().iter().find(ours).expect("the runtime of scripts/cross");
                command.env(name, value);
                command
            }
        };
        self.search(&mut command, &[folder]);
        command
    }

    /// Where the system looks for shared libraries that a program needs.
    pub fn search(&self, command: &mut Command, folders: &[&Path]) {
        if self.windows {
            let paths: Vec<String> = folders.iter().map(|f| format!("Z:{}", f.display())).collect();
            command.env("WINEPATH", paths.join(";").replace('/', "\\"));
        } else {
            command.env("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap());
        }
    }

    /// What a program printed, with the ends of lines that C has.
    pub fn text(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        if self.windows { text.replace("\r\n", "\n") } else { text.into_owned() }
    }

    /// What a program wrote to stderr, without what ONNX Runtime says where DXGI is missing, as it is in wine.
    pub fn complaints(&self, bytes: &[u8]) -> String {
        complaints(self.windows, &self.text(bytes))
    }
}

pub(super) fn complaints(windows: bool, stderr: &str) -> String {
    let of_wine = |line: &&str| windows && line.trim_end() == "Failed to create DXGI factory.";
    stderr.split_inclusive('\n').filter(|line| !of_wine(line)).collect()
}

fn cross() -> Command {
    Command::new(root().join("scripts/cross"))
}
