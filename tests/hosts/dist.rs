//! `make dist`: programs built with it start from their own folder alone, as its README says.

use softdimo::image::read_png;
use support::built::file;
use support::process::run;
use support::program::compiler;

use super::*;

/// The folder, made of the tests' build and moved to where nothing of the repository is.
fn dist(test: &str) -> PathBuf {
    let folder = folder(test);
    let build = folder.join("build");
    std::fs::create_dir(&build).unwrap();
    for name in ["libsoftdimo.so", "libsoftdimo.a", "softdimo"] {
        std::os::unix::fs::symlink(file(name), build.join(name)).unwrap();
    }
    let made = folder.join("made");
    run(Command::new("make")
        .arg("dist")
        .arg(format!("DIST={}", made.display()))
        .arg(format!("BUILD={}", build.display()))
        .arg(format!("ORT={}", runtime().display()))
        .current_dir(root()));
    let moved = folder.join("moved");
    std::fs::rename(made, &moved).unwrap();
    moved
}

/// Programs of the README, built by its commands, and nothing else of the folder left, in an empty environment.
#[test]
fn programs_start_from_their_own_folder() {
    let _machine = shared();
    let dist = dist("dist");
    let readme = std::fs::read_to_string(dist.join("README.md")).unwrap();
    let cc = compiler("cc");
    let words: Vec<_> = std::iter::once(cc.get_program()).chain(cc.get_args()).collect();
    let cc = words.join(" ".as_ref()).into_string().unwrap();
    let blocks: Vec<&str> =
        readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let expected = Expected::new().picture("red apple", 7);
    for (block, name) in blocks.iter().zip(["game", "static"]) {
        let block = block.replace("\ncc ", &format!("\n{cc} "));
        run(Command::new("sh")
            .args(["-e", "-c", &block])
            .current_dir(&dist)
            .env_remove("SOFTDIMO_ORT_LIBRARY")
            .env_remove("LD_LIBRARY_PATH"));
        assert_eq!(read_png(dist.join("apple.png")).unwrap().0.data(), expected.data());

        let dynamic = run(Command::new("readelf").arg("-dW").arg(dist.join(name).join("first")));
        assert_eq!(dynamic.contains("libsoftdimo"), name == "game", "{dynamic}");
        assert!(!dynamic.contains("libonnxruntime"), "{dynamic}");

        // As a player has it.
        let shipped = dist.with_file_name(format!("shipped {name}"));
        std::fs::rename(dist.join(name), &shipped).unwrap();
        std::fs::rename(&dist, dist.with_file_name("away")).unwrap();
        let picture = shipped.join("apple.png");
        run(Command::new(shipped.join("first"))
            .arg(shipped.join(bundled().file_name().unwrap()))
            .arg("red apple")
            .arg(&picture)
            .current_dir("/")
            .env_clear());
        assert_eq!(read_png(&picture).unwrap().0.data(), expected.data());
        std::fs::rename(dist.with_file_name("away"), &dist).unwrap();
    }
}

/// By the packages that the folder has, where it is now.
#[test]
fn cmake_and_pkg_config_find_the_folder() {
    let _machine = shared();
    let dist = dist("dist_packages");
    let tools = root().join("target/tools/bin");
    let flags = run(Command::new(tools.join("pkgconf"))
        .args(["--cflags", "--libs", "softdimo"])
        .env("PKG_CONFIG_PATH", dist.join("lib/pkgconfig")));
    run(compiler("cc")
        .args(["-std=c99", "-o"])
        .arg(dist.join("program"))
        .arg(dist.join("example/first.c"))
        .args(flags.split_whitespace()));
    let build = dist.join("cmake");
    run(Command::new(tools.join("cmake"))
        .arg("-S")
        .arg(root().join("tests/bindings/find_package"))
        .arg("-B")
        .arg(&build)
        .arg(format!("-DCMAKE_PREFIX_PATH={}", dist.display())));
    run(Command::new(tools.join("cmake")).arg("--build").arg(&build));
    run(Command::new(build.join("version")).env_clear());
}

#[test]
fn the_folder_is_complete() {
    let _machine = shared();
    let dist = dist("dist_files");
    let read =
        |name: &str| std::fs::read_to_string(dist.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(
        read("include/softdimo.h"),
        std::fs::read_to_string(root().join("include/softdimo.h")).unwrap()
    );
    let soname = support::built::soname(env!("CARGO_PKG_VERSION"));
    assert!(dist.join("lib").join(&soname).symlink_metadata().unwrap().is_file());
    assert_eq!(std::fs::read_link(dist.join("lib/libsoftdimo.so")).unwrap(), Path::new(&soname));
    for name in [
        "include/softdimo.hpp",
        "lib/pkgconfig/softdimo.pc",
        "lib/cmake/softdimo/softdimo-config.cmake",
        "lib/libonnxruntime.so",
    ] {
        assert!(dist.join(name).exists(), "{name}");
    }
    let said = run(Command::new(dist.join("bin/softdimo")).arg("--version").env_clear());
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");

    // Licences of the crates that are linked in, of the others none.
    let crates = read("licences/crates.txt");
    for name in [
        "ort ",
        "safetensors ",
        "png ",
        "linked_list_allocator ",
        "clap ",
        "Permission is hereby granted",
        "Apache License",
    ] {
        assert!(crates.contains(name), "{name}");
    }
    for name in ["cbindgen ", "syn ", "serde_derive ", "test-support "] {
        assert!(!crates.lines().any(|line| line.starts_with(name)), "{name}");
    }
    assert!(read("licences/onnxruntime-ThirdPartyNotices.txt").len() > 100_000);
    assert!(read("licences/onnxruntime-LICENSE.txt").contains("Microsoft"));
    assert!(read("licences/emoji-32.md").contains("Noto Emoji"));
    assert!(read("licences/rust-library.html").contains("Apache License"));
    for name in ["MIT", "APACHE"] {
        assert!(read(&format!("licences/LICENSE-{name}")).len() > 500);
    }
}
