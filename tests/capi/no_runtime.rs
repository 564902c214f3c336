//! No usable ONNX Runtime: what is tried, and what is said of each place.

use std::path::{Path, PathBuf};
use std::process::Command;

use support::built::place;
use support::maskbit;
use support::platform::platform;

use super::left_out::part_left_out;
use super::programs::{program, run};

/// Files that are no ONNX Runtime, and what is asked of the library about them.
struct Bench {
    folder: tempfile::TempDir,
    model: PathBuf,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        Bench { model: maskbit::labelled(folder.path()), folder }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        file
    }

    /// The error of an engine with this option ("-": none) has all these words.
    fn says(&self, setup: &dyn Fn(&mut Command), option: &str, words: &[&str]) {
        let mut command = program("runtime");
        setup(&mut command);
        run(command.arg(&self.model).arg(option).arg(platform().runtime()).args(words));
    }

    fn refuses(&self, option: &Path, words: &[&str]) {
        self.says(&|_| (), option.to_str().unwrap(), words);
    }
}

/// The option and the environment variable are orders: nothing else is tried.
#[test]
fn no_usable_runtime() {
    let bench = Bench::new();
    let nowhere = format!("/nowhere/{}", platform().runtime);
    bench.refuses(nowhere.as_ref(), &[&format!("tried: option '{nowhere}': ")]);
    let other = if platform().windows { "z:/nowhere/../no.dll" } else { "libm.so.6" };
    let found = if platform().windows { "" } else { "it does not export OrtGetApiBase" };
    bench.refuses(other.as_ref(), &[&format!("option '{other}': {found}")]);
    let kind = if platform().windows { "a Windows DLL" } else { "an ELF shared library" };
    let found = format!("text.so': expected {kind} for {}, found a file of 13 bytes", platform().machine);
    bench.refuses(&bench.file("text.so", b"not a library"), &[&found, "\"not a library\""]);
    bench.refuses(bench.folder.path(), &["': expected a regular file, found a directory"]);
    bench.refuses("".as_ref(), &["option ''"]);
    let environment = |c: &mut Command| {
        c.env("SOFTDIMO_ORT_LIBRARY", "/nowhere/x.so");
    };
    bench.says(&environment, "-", &["tried: SOFTDIMO_ORT_LIBRARY '/nowhere/x.so': "]);
}

/// What the loader would die of, or wait for.
#[test]
fn runtime_cut_short_or_of_another_machine() {
    let bench = Bench::new();
    let whole = std::fs::read(platform().runtime()).unwrap();
    let (tables, first) = match platform().windows {
        true => ("sections", "found a Windows (PE) file"),
        false => ("section headers", "to the end of its ELF header, found 40"),
    };
    let half = format!("to the end of its {tables}, found 1000000: it was cut short");
    for (length, words) in [
        (1_000_000, half.as_str()),
        (whole.len() - 1, if platform().windows { "" } else { "it was cut short" }),
        (40, first),
        (0, "found an empty file"),
    ] {
        // A signature lies behind the sections of a DLL: nothing that the loader maps.
        if !words.is_empty() {
            bench.refuses(&bench.file("cut.so", &whole[..length]), &[words]);
        }
    }
    let changes: &[(usize, u8, &str)] = match platform().windows {
        true => {
            let header = u32::from_le_bytes(whole[60..64].try_into().unwrap()) as usize;
            &[
                (0, b'X', "a file of"),
                (header, b'N', "a program of another system"),
                (header + 5, 0xaa, "found machine 0xaa64"),
            ]
        }
        false => &[(4, 1, "one of 32 bits"), (18, 243, "one for machine 243"), (0, b'M', "a file of")],
    };
    for &(at, value, words) in changes {
        let mut other = whole.clone();
        other[at] = value;
        bench.refuses(&bench.file("other.so", &other), &[words]);
    }
}

#[test]
fn runtime_that_is_no_file() {
    if part_left_out("no_usable_runtime", "a FIFO, and devices") {
        return;
    }
    let bench = Bench::new();
    let fifo = bench.folder.path().join("fifo.so");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [&*fifo, "/dev/zero".as_ref()] {
        bench.refuses(path, &["expected a regular file, found a device, pipe or socket"]);
    }
}

/// Without either order: beside the library, then the system loader, which here finds junk under both names.
#[test]
fn runtime_beside_the_library_and_of_the_system() {
    let bench = Bench::new();
    let (alone, junk) = (bench.folder.path().join("alone"), bench.folder.path().join("junk"));
    std::fs::create_dir(&alone).unwrap();
    std::fs::create_dir(&junk).unwrap();
    place(&alone);
    let search = |c: &mut Command| {
        c.env_remove("SOFTDIMO_ORT_LIBRARY");
        platform().search(c, &[&alone, &junk]);
    };
    let folder = alone.canonicalize().unwrap();
    let (folder, separator) = match platform().windows {
        true => (format!("Z:{}", folder.display()).replace('/', "\\"), "\\"),
        false => (folder.display().to_string(), "/"),
    };
    let beside = format!("beside libsoftdimo '{folder}{separator}{}': ", platform().runtime);
    let system = format!("system loader '{}': ", platform().runtime);
    if part_left_out("no_usable_runtime", "what the system loader finds") {
        bench.says(&search, "-", &[&beside, &system]);
        return;
    }
    for name in ["libonnxruntime.so", "libonnxruntime.so.1"] {
        std::fs::write(junk.join(name), "junk").unwrap();
    }
    bench.says(&search, "-", &[&beside, &system, "system loader 'libonnxruntime.so.1': "]);
    // The loader would map what was cut short.
    let whole = std::fs::read(platform().runtime()).unwrap();
    std::fs::write(junk.join("libonnxruntime.so"), &whole[..1_000_000]).unwrap();
    bench.says(&search, "-", &["junk/libonnxruntime.so: expected ", "found 1000000: it was cut short"]);
}
