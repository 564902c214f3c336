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
mod left_out;
mod models;
mod no_runtime;
mod programs;
mod prompts;
mod windows;

use left_out::left_out;
use programs::{compiled, example, program, run};
use softdimo::convert::{Storage, quantize};
use support::built::library;
use support::platform::platform;
use support::{bundled, data, maskbit, root};

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

/// The process may open no file, one, two and so on: an error, then pictures, and nothing printed.
#[test]
fn open_files_exhausted() {
    if left_out("files") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    run(program("files").arg(maskbit::labelled(folder.path())));
}

#[test]
fn hygiene() {
    if left_out("hygiene") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (floats, int8) = (maskbit::labelled(folder.path()), folder.path().join("int8.softdimo.safetensors"));
    quantize(&floats, Storage::Int8, &int8, |_, _| ()).unwrap();
    run(program("hygiene").arg(floats));
    run(program("hygiene").arg(int8));
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
fn unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let int4 = folder.path().join("int4.softdimo.safetensors");
    quantize(&maskbit::labelled(folder.path()), Storage::Int4, &int4, |_, _| ()).unwrap();
    run(program("unpacked").arg(int4));
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
    if left_out("short_memory") {
        return;
    }
    run(program("short_memory").arg(bundled()));
}

/// The same in small steps.
#[test]
#[ignore = "a minute: `make test-full` runs it"]
fn full_short_memory() {
    if left_out("short_memory") {
        return;
    }
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
    if left_out("fork_exit") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    run(program("fork_exit").arg(maskbit::labelled(folder.path())).arg(library().join(platform().shared)));
}

#[test]
fn plugin() {
    if left_out("plugin") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    run(program("plugin").arg(maskbit::labelled(folder.path())).arg(library().join(platform().shared)));
}

/// Every way to leave a program, with the library at everything that it does.
#[test]
fn ends() {
    run(program("ends").arg(bundled()));
}

/// Folders and files with names in Cyrillic and Chinese: the model, ONNX Runtime, a picture.
#[test]
fn paths() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("Модели-模型-é");
    std::fs::create_dir(&inside).unwrap();
    std::fs::copy(bundled(), inside.join("яблоко-蘋果.softdimo.safetensors")).unwrap();
    std::fs::copy(platform().runtime(), inside.join(platform().runtime)).unwrap();
    run(program("paths").arg(folder.path()).arg(platform().runtime));
    let (picture, _) = softdimo::image::read_png(inside.join("яблоко-蘋果.png")).unwrap();
    assert_eq!((picture.width(), picture.height()), (32, 32));
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
    if left_out("truncation") {
        return;
    }
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
        // Not a point, behind which would be an extension.
        let name = format!("released-{}", version.file_name().unwrap().to_str().unwrap().replace('.', "_"));
        // Before the folder of today's header.
        let mut program = compiled(&[&include], "released.c", &name);
        run(program.arg(maskbit::labelled(folder.path())).arg(folder.path()));
    }
}
