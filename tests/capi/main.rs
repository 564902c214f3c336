//! The C ABI as its users meet it: strict C99 programs (`tests/capi/*.c`), compiled against
//! `include/softdimo.h`, linked to the shared library, each run as a process of its own. A program checks one
//! theme; here its files are made and its output is held against what it may print, which is nothing of the
//! library's. `cargo test --test capi -- --nocapture` shows every message and measurement.

#![cfg(target_os = "linux")]

mod abi;
mod abi_record;
#[path = "../bindings/mod.rs"]
mod bindings;
mod faults;
mod header;
mod models;
mod programs;
mod prompts;

use programs::{example, program, run};
use support::built::{library, place};
use support::program::compile;
use support::{bundled, data, maskbit, root, runtime};

#[test]
fn bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let model = maskbit::labelled(folder.path());
    let hostile = folder.path().join("hostile");
    std::fs::create_dir(&hostile).unwrap();
    models::hostile(&model, &hostile);
    run(program("bad_input").args([&model, &hostile, &folder.path().to_path_buf()]));
}

/// The sweep over bad arguments leaves out no function of the header.
#[test]
fn bad_input_covers_every_function() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let (header, sweep) =
        (read("include/softdimo.h"), read("tests/capi/bad_input.c") + &read("tests/capi/check.h"));
    let declared =
        header.lines().filter(|l| !l.starts_with("//") && !l.starts_with(" ") && !l.starts_with("typedef"));
    let functions: Vec<&str> = declared
        .filter_map(|line| line.split_once('(').and_then(|(before, _)| before.rsplit([' ', '*']).next()))
        .filter(|name| name.starts_with("softdimo_"))
        .collect();
    assert!(functions.len() >= 33, "{functions:?}");
    for name in functions {
        assert!(sweep.contains(&format!("{name}(")), "{name} is not called");
    }
}

#[test]
fn no_usable_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let model = maskbit::labelled(folder.path());
    let check = |setup: &dyn Fn(&mut std::process::Command), option: &str, words: &[&str]| {
        let mut command = program("runtime");
        setup(&mut command);
        run(command.arg(&model).arg(option).arg(runtime()).args(words));
    };
    let keep = |_: &mut std::process::Command| ();
    let text = folder.path().join("text.so");
    std::fs::write(&text, "not a library").unwrap();

    // The option and the environment variable are orders: nothing else is tried.
    check(&keep, "/nowhere/libonnxruntime.so", &["tried: option '/nowhere/libonnxruntime.so': "]);
    check(&keep, "libm.so.6", &["option 'libm.so.6': it does not export OrtGetApiBase"]);
    let found = "text.so': expected an ELF shared library for x86_64, found a file of 13 bytes";
    check(&keep, text.to_str().unwrap(), &[found, "\"not a library\""]);
    check(&keep, folder.path().to_str().unwrap(), &["': expected a regular file, found a directory"]);
    check(&keep, "", &["option ''"]);
    let environment = |c: &mut std::process::Command| {
        c.env("SOFTDIMO_ORT_LIBRARY", "/nowhere/x.so");
    };
    check(&environment, "-", &["tried: SOFTDIMO_ORT_LIBRARY '/nowhere/x.so': "]);

    // What the loader would die of, or wait for.
    let whole = std::fs::read(runtime()).unwrap();
    let cut = folder.path().join("cut.so");
    for (length, words) in [
        (1_000_000, "to the end of its section headers, found 1000000: it was cut short"),
        (whole.len() - 1, "it was cut short"),
        (40, "to the end of its ELF header, found 40"),
        (0, "found an empty file"),
    ] {
        std::fs::write(&cut, &whole[..length]).unwrap();
        check(&keep, cut.to_str().unwrap(), &[words]);
    }
    for (at, value, words) in
        [(4, 1, "one of 32 bits"), (18, 183, "one for machine 183"), (0, b'M', "a file of")]
    {
        let mut other = whole.clone();
        other[at] = value;
        std::fs::write(&cut, other).unwrap();
        check(&keep, cut.to_str().unwrap(), &[words]);
    }
    let fifo = folder.path().join("fifo.so");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [fifo.to_str().unwrap(), "/dev/zero"] {
        check(&keep, path, &["expected a regular file, found a device, pipe or socket"]);
    }

    // Without either: beside the library, then the system loader, which here finds junk under both names.
    let alone = folder.path().join("alone");
    let junk = folder.path().join("junk");
    std::fs::create_dir(&alone).unwrap();
    std::fs::create_dir(&junk).unwrap();
    place(&alone);
    for name in ["libonnxruntime.so", "libonnxruntime.so.1"] {
        std::fs::write(junk.join(name), "junk").unwrap();
    }
    let search = |c: &mut std::process::Command| {
        c.env_remove("SOFTDIMO_ORT_LIBRARY");
        c.env("LD_LIBRARY_PATH", std::env::join_paths([&alone, &junk]).unwrap());
    };
    let beside =
        format!("beside libsoftdimo '{}/libonnxruntime.so': ", alone.canonicalize().unwrap().display());
    let words = [&beside, "system loader 'libonnxruntime.so': ", "system loader 'libonnxruntime.so.1': "];
    check(&search, "-", &words);
    // The loader would map what was cut short.
    std::fs::write(junk.join("libonnxruntime.so"), &whole[..1_000_000]).unwrap();
    check(&search, "-", &["junk/libonnxruntime.so: expected ", "found 1000000: it was cut short"]);
}

/// The process may open no file, one, two and so on: an error, then pictures, and nothing printed.
#[test]
fn open_files_exhausted() {
    let folder = tempfile::tempdir().unwrap();
    run(program("files").arg(maskbit::labelled(folder.path())));
}

#[test]
fn hygiene() {
    let folder = tempfile::tempdir().unwrap();
    run(program("hygiene").arg(maskbit::labelled(folder.path())));
}

#[test]
fn determinism() {
    let folder = tempfile::tempdir().unwrap();
    run(program("determinism").arg(maskbit::labelled(folder.path())).args(["red apple", "moon"]));
}

/// The same on the bundled model, whose weights are int8.
#[test]
fn determinism_of_the_bundled_model() {
    run(program("determinism").arg(bundled()).args(["skull", "red heart"]));
}

#[test]
fn jobs() {
    let folder = tempfile::tempdir().unwrap();
    run(program("jobs").arg(maskbit::labelled(folder.path())));
}

/// A thread that draws is never made to wait, whatever the engine's threads are doing.
#[test]
fn frame_loop() {
    run(program("frame_loop").arg(bundled()));
}

#[test]
fn queue() {
    run(program("queue").arg(bundled()));
}

#[test]
fn pace() {
    run(program("pace").arg(bundled()));
}

#[test]
fn opening() {
    let folder = tempfile::tempdir().unwrap();
    run(program("opening").arg(bundled()).arg(maskbit::labelled(folder.path())));
}

#[test]
fn lost_jobs() {
    let folder = tempfile::tempdir().unwrap();
    run(program("lost_jobs").arg(maskbit::labelled(folder.path())));
}

#[test]
fn memory() {
    run(program("memory").arg(bundled()));
}

/// A thousand jobs from eight threads.
#[test]
fn stress() {
    run(program("stress").arg(bundled()).args(["1000", "1"]));
}

/// The same, twenty times, each in another order.
#[test]
#[ignore = "minutes: `make test-nightly` runs it"]
fn nightly_stress() {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_micros();
    for k in 0..20 {
        run(program("stress").arg(bundled()).args(["1000", &(seed + k).to_string()]));
    }
}

/// Memory stays what it was.
#[test]
#[ignore = "minutes: `make test-nightly` runs it"]
fn nightly_soak() {
    run(program("soak").arg(bundled()).args(["30000", "2000"]));
}

/// Address space from far too little to plenty.
#[test]
fn short_memory() {
    run(program("short_memory").arg(bundled()));
}

/// The same in small steps.
#[test]
#[ignore = "a minute: `make test-full` runs it"]
fn full_short_memory() {
    run(program("short_memory").arg(bundled()).args(["60000", "400000", "4000"]));
}

#[test]
fn edit() {
    let folder = tempfile::tempdir().unwrap();
    run(program("edit").arg(maskbit::labelled(folder.path())));
}

#[test]
fn pictures() {
    run(program("pictures").arg(bundled()));
}

#[test]
fn pictures_with_alpha() {
    let folder = tempfile::tempdir().unwrap();
    run(program("alpha").arg(support::alpha::maskbit_model(folder.path())));
}

#[test]
fn optimize() {
    let folder = tempfile::tempdir().unwrap();
    run(program("optimize").arg(maskbit::labelled(folder.path())));
}

/// Deadlines, cancelling and freeing at any moment, preparing ahead, and a budget for several engines.
#[test]
fn interactive() {
    run(program("interactive").arg(bundled()));
}

#[test]
fn callbacks() {
    let folder = tempfile::tempdir().unwrap();
    run(program("callbacks").arg(maskbit::labelled(folder.path())));
}

#[test]
fn host_threads() {
    let folder = tempfile::tempdir().unwrap();
    run(program("host_threads").arg(bundled()).arg(folder.path()));
}

#[test]
fn rewards() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    models::rewards(&files);
    run(program("rewards").arg(maskbit::labelled(folder.path())).arg(files));
}

/// `examples/optimize`: the reward of the host's own rises, and the sheet holds two different pictures.
#[test]
fn example_optimize() {
    let folder = tempfile::tempdir().unwrap();
    let sheet = folder.path().join("sheet.png");
    let output = example("optimize").arg(bundled()).arg(&sheet).arg("8").output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    print!("# {stdout}");
    let numbers: Vec<f32> = stdout.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[1] > numbers[0], "{stdout}");
    let (sheet, _) = softdimo::image::read_png(&sheet).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (64, 32));
    let half = |from: usize| -> Vec<&[u8]> {
        sheet.data().chunks_exact(64 * 4).map(|row| &row[from..from + 32 * 4]).collect()
    };
    assert!(half(0) != half(32 * 4));
}

#[test]
fn fork_and_exit() {
    let folder = tempfile::tempdir().unwrap();
    run(program("fork_exit").arg(maskbit::labelled(folder.path())).arg(library().join("libsoftdimo.so")));
    run(program("plugin").arg(maskbit::labelled(folder.path())).arg(library().join("libsoftdimo.so")));
}

/// An exit at any moment, with an optimisation or a slow model under way, in fresh processes; the worst times are printed.
#[test]
fn exit_while_running() {
    run(program("exit_optimize").arg(bundled()));
}

/// The same, more often and at other moments every time.
#[test]
#[ignore = "minutes: `make test-full` runs it"]
fn full_exit_while_running() {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    run(program("exit_optimize").arg(bundled()).args(["300", "-1", &seed.to_string()]));
}

#[test]
fn truncation() {
    let folder = tempfile::tempdir().unwrap();
    run(program("truncation").arg(maskbit::labelled(folder.path())).arg(folder.path()));
}

#[test]
fn parity() {
    let folder = tempfile::tempdir().unwrap();
    let batches = models::golden(folder.path());
    let golden = data("maskbit/golden.safetensors");
    run(program("parity").arg(maskbit::labelled(folder.path())).arg(golden).args(batches));
}

/// Programs built with the released headers, each against this library.
#[test]
fn released_headers() {
    for header in abi_record::released() {
        let folder = tempfile::tempdir().unwrap();
        let version = header.parent().unwrap();
        let include = format!("-I{}", version.display());
        let name = format!("released-{}", version.file_name().unwrap().to_str().unwrap());
        // Before the folder of today's header.
        let options = ["-std=c99", "-D_GNU_SOURCE", "-g", "-O1", &include];
        let mut program = compile("cc", &options, &root().join("tests/capi/released.c"), &name);
        run(program.arg(maskbit::labelled(folder.path())).arg(folder.path()));
    }
}
