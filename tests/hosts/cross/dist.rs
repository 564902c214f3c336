//! `make dist TARGET=`: what is in the folders, and programs that are built with them and shipped.

use super::*;

/// The folder, made of the tests' build and moved to where nothing of the repository is.
fn dist(platform: Abroad, test: &str) -> PathBuf {
    let folder = folder(test);
    let made = folder.join("made");
    run(platform.make("dist").arg(format!("DIST={}", made.display())));
    let moved = folder.join("moved");
    std::fs::rename(made, &moved).unwrap();
    moved
}

/// The commands of the README's block that has this word, with the compiler that is at hand.
fn build(platform: Abroad, dist: &Path, word: &str, compiler: (&str, &str)) {
    let readme = std::fs::read_to_string(dist.join("README.md")).unwrap();
    let mut blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let block = blocks.find(|block| block.contains(word)).unwrap_or_else(|| panic!("{word}: {readme}"));
    // The last line runs the program: that is for an emulator.
    let (build, _) = block.trim_end().rsplit_once('\n').unwrap();
    let strict = format!("{} -Wall -Wextra -pedantic -Werror ", compiler.1);
    assert_eq!(build.matches(compiler.0).count(), 1, "{build}");
    let build = build.replace(compiler.0, &strict);
    run(platform.tool("sh").args(["-e", "-c", &build]).current_dir(dist));
}

/// The program of a folder as a player has it: elsewhere, and with nothing of the folder that it was built with.
fn ship(platform: Abroad, dist: &Path, game: &str) {
    let away = dist.with_file_name("away");
    let shipped = dist.with_file_name(format!("shipped {game}"));
    std::fs::rename(dist.join(game), &shipped).unwrap();
    std::fs::rename(dist, &away).unwrap();
    let program = shipped.join(if platform == Abroad::Windows { "first.exe" } else { "first" });
    let picture = shipped.join("apple.png");
    run(platform
        .emulated(&program)
        .arg(shipped.join(bundled().file_name().unwrap()))
        .arg("red apple")
        .arg(&picture)
        .current_dir("/"));
    is_the_apple(&picture);
    std::fs::rename(away, dist).unwrap();
}

fn cmake() -> PathBuf {
    root().join("target/tools/bin/cmake")
}

/// CMake of a project that finds the folder as a package, with options of its own.
fn configure(platform: Abroad, dist: &Path, build: &Path, own: &[&str]) -> Command {
    let mut command = platform.tool(cmake());
    command.arg("-S").arg(root().join("tests/bindings/find_package")).arg("-B").arg(build);
    command.arg(format!("-DCMAKE_PREFIX_PATH={}", dist.display())).args(own);
    command
}

const COMMON: [&str; 15] = [
    "README.md",
    "example/first.c",
    "include/softdimo.h",
    "include/softdimo.hpp",
    "lib/cmake/softdimo/softdimo-config-version.cmake",
    "lib/cmake/softdimo/softdimo-config.cmake",
    "lib/pkgconfig/softdimo.pc",
    "licences/LICENSE-APACHE",
    "licences/LICENSE-MIT",
    "licences/crates.txt",
    "licences/emoji-32.md",
    "licences/onnxruntime-LICENSE.txt",
    "licences/onnxruntime-ThirdPartyNotices.txt",
    "licences/rust-library.txt",
    "share/softdimo/emoji-32.softdimo.safetensors",
];

fn has_these(dist: &Path, own: &[&str]) {
    let expected: BTreeSet<String> = COMMON.iter().chain(own).map(|name| name.to_string()).collect();
    assert_eq!(files(dist), expected);
    let read = |name: &str| std::fs::read_to_string(dist.join(name)).unwrap();
    assert!(read("licences/crates.txt").contains("\nwindows-sys "));
    assert!(read("licences/rust-library.txt").contains("rust-lang.org"));
    let readme = read("README.md");
    assert!(!readme.contains('@'), "{readme}");
}

#[test]
#[ignore = "needs scripts/cross install: make test-dist"]
fn windows() {
    let _turn = turn();
    let platform = Abroad::Windows;
    let dist = dist(platform, "cross_windows");
    has_these(
        &dist,
        &[
            "bin/onnxruntime.dll",
            "bin/softdimo.dll",
            "bin/softdimo.exe",
            "lib/libsoftdimo.dll.a",
            "lib/softdimo.lib",
            "licences/gcc-runtime.txt",
            "licences/mingw-w64.txt",
        ],
    );
    let dll = dist.join("bin/softdimo.dll");
    assert_eq!(platform.exports(&dll), declared());
    platform.needs_nothing_else(&dll, &[]);
    platform.needs_nothing_else(&dist.join("bin/softdimo.exe"), &[]);
    let sections = run(platform.tool("x86_64-w64-mingw32-objdump").arg("-h").arg(&dll));
    assert!(!sections.contains(".debug"), "{sections}");
    assert_version(&dll);

    // By the README's words, then with the other import library and LLVM's linker.
    build(platform, &dist, "game/first.exe", ("x86_64-w64-mingw32-gcc", platform.compiler()));
    ship(platform, &dist, "game");
    let game = dist.join("lld");
    std::fs::create_dir(&game).unwrap();
    // gcc looks for a linker of another name where it is told to.
    let with_lld = "x86_64-w64-mingw32-gcc -std=c99 -fuse-ld=lld -B\"$(dirname \"$(command -v ld.lld)\")\" \
                    example/first.c -Iinclude lib/softdimo.lib -o lld/first.exe";
    run(platform.tool("sh").args(["-c", with_lld]).current_dir(&dist));
    platform.needs_nothing_else(&game.join("first.exe"), &["softdimo.dll"]);
    for name in ["bin/softdimo.dll", "bin/onnxruntime.dll", "share/softdimo/emoji-32.softdimo.safetensors"] {
        std::fs::copy(dist.join(name), game.join(Path::new(name).file_name().unwrap())).unwrap();
    }
    ship(platform, &dist, "lld");

    links_as_msvc_does(&dist);
}

/// The command line finds runtime and model from its own place.
#[test]
#[ignore = "needs scripts/cross install: make test-dist"]
fn windows_program() {
    let _turn = turn();
    let platform = Abroad::Windows;
    let dist = dist(platform, "cross_windows_program");
    let program = dist.join("bin/softdimo.exe");
    let said = run(platform.emulated(&program).arg("--version"));
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    let picture = dist.join("by program.png");
    run(platform
        .emulated(&program)
        .args(["generate", "--label", "red apple", "--seed", "7", "--enlarge", "1", "-o"])
        .arg(&picture)
        .current_dir("/"));
    is_the_apple(&picture);
}

/// The version that Windows shows of the file.
fn assert_version(dll: &Path) {
    let bytes = std::fs::read(dll).unwrap();
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let has = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(has(&wide("VS_VERSION_INFO")), "no version resource");
    // A name and its value, each with a NUL, the value at a multiple of 4.
    for (name, value) in [("FileVersion", env!("CARGO_PKG_VERSION")), ("OriginalFilename", "softdimo.dll")] {
        let found = (0..2).any(|padding| {
            let text = format!("{name}\0{}{value}\0", "\0".repeat(padding));
            has(&wide(&text))
        });
        assert!(found, "the resource does not say {name} {value}");
    }
}

/// softdimo.lib in the linker that takes MSVC's options, for a program without any C library: the import library is of the
/// short form, and that of mingw is not needed.
fn links_as_msvc_does(dist: &Path) {
    let library = std::fs::read(dist.join("lib/softdimo.lib")).unwrap();
    assert!(library.starts_with(b"!<arch>\n"));
    let short = [0, 0, 0xff, 0xff, 0, 0, 0x64, 0x86]; // IMPORT_OBJECT_HEADER: two signatures, version 0, x64
    let count = library.windows(short.len()).filter(|window| *window == short).count();
    assert_eq!(count, declared().len(), "short import objects");

    let platform = Abroad::Windows;
    std::fs::write(
        dist.join("bare.c"),
        "#include <softdimo.h>\n\
         __declspec(dllimport) void __stdcall ExitProcess(unsigned);\n\
         void start(void) { ExitProcess(softdimo_abi_version() == SOFTDIMO_ABI_VERSION ? 42 : 1); }\n",
    )
    .unwrap();
    run(platform
        .tool(platform.compiler())
        .args(["-c", "-Iinclude", "bare.c", "-o", "bare.obj"])
        .current_dir(dist));
    std::fs::write(dist.join("kernel32.def"), "LIBRARY kernel32.dll\nEXPORTS\nExitProcess\n").unwrap();
    let linker = |arguments: &[&str]| run(platform.tool("lld-link").args(arguments).current_dir(dist));
    linker(&["/def:kernel32.def", "/machine:x64", "/out:kernel32.lib"]);
    linker(&[
        "/entry:start",
        "/subsystem:console",
        "/nodefaultlib",
        "/out:bin/bare.exe",
        "bare.obj",
        "lib/softdimo.lib",
        "kernel32.lib",
    ]);
    let status = platform.emulated(&dist.join("bin/bare.exe")).status().unwrap();
    assert_eq!(status.code(), Some(42));
}

/// CMake does not take the package for a program of this machine, and says for what it is.
fn is_refused_here(platform: Abroad, dist: &Path, of: &str) {
    let refused = configure(platform, dist, &dist.join("cmake_here"), &[]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains(of), "{said}");
}

#[test]
#[ignore = "needs scripts/cross install: make test-dist"]
fn windows_packages() {
    let _turn = turn();
    let platform = Abroad::Windows;
    let dist = dist(platform, "cross_windows_packages");
    let tools = root().join("target/tools/bin");
    let flags = run(Command::new(tools.join("pkgconf"))
        .args(["--define-prefix", "--cflags", "--libs", "softdimo"])
        .env("PKG_CONFIG_PATH", dist.join("lib/pkgconfig")));
    let program = dist.join("bin/first.exe");
    run(platform
        .tool(platform.compiler())
        .args(["-std=c99", "-o"])
        .arg(&program)
        .arg(dist.join("example/first.c"))
        .args(flags.split_whitespace()));
    let picture = dist.join("apple.png");
    let model = dist.join("share/softdimo/emoji-32.softdimo.safetensors");
    run(platform.emulated(&program).arg(&model).arg("red apple").arg(&picture));
    is_the_apple(&picture);

    let build = dist.join("cmake");
    run(&mut configure(
        platform,
        &dist,
        &build,
        &[
            "-DCMAKE_SYSTEM_NAME=Windows",
            "-DCMAKE_C_COMPILER=x86_64-w64-mingw32-gcc",
            "-DCMAKE_CXX_COMPILER=x86_64-w64-mingw32-g++",
            "-DCMAKE_RC_COMPILER=x86_64-w64-mingw32-windres",
            "-DCMAKE_EXE_LINKER_FLAGS=-static",
        ],
    ));
    run(platform.tool(cmake()).arg("--build").arg(&build));
    // What has to lie beside them was copied there.
    run(&mut platform.emulated(&build.join("version.exe")));
    let picture = build.join("apple.png");
    run(platform.emulated(&build.join("one_picture.exe")).arg(&model).arg(&picture));
    is_the_apple(&picture);

    // It is not taken for a package of this system.
    is_refused_here(platform, &dist, "(Windows)");
}

#[test]
#[ignore = "needs scripts/cross install: make test-dist"]
fn arm() {
    let _turn = turn();
    let platform = Abroad::Arm;
    let dist = dist(platform, "cross_arm");
    let soname = support::built::soname(env!("CARGO_PKG_VERSION"));
    let library = format!("lib/{soname}");
    has_these(
        &dist,
        &[
            "bin/softdimo",
            &library,
            "lib/libonnxruntime.so",
            "lib/libsoftdimo.a",
            "lib/libsoftdimo.so",
            "lib/softdimo/libonnxruntime.so",
            "lib/softdimo/softdimo",
        ],
    );
    let library = dist.join(library);
    assert_eq!(platform.exports(&library), declared());
    platform.needs_nothing_else(&library, &[]);
    platform.needs_nothing_else(&dist.join("lib/softdimo/softdimo"), &[]);
    let head = run(platform.tool("aarch64-linux-gnu-objdump").arg("-p").arg(&library));
    assert!(head.contains("elf64-littleaarch64"), "{head}");
    let named = head.lines().find(|line| line.contains("SONAME")).unwrap_or_default();
    assert!(named.ends_with(&soname), "{head}");
    // As docs/platforms.md says.
    let minors = head.split("GLIBC_2.").skip(1).map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().unwrap()
    });
    assert!(minors.max().is_some_and(|minor| minor <= 34), "{head}");

    let compiler = ("cc", platform.compiler());
    build(platform, &dist, "game/first", compiler);
    platform.needs_nothing_else(&dist.join("game/first"), &[&soname]);
    ship(platform, &dist, "game");
    build(platform, &dist, "static/first", compiler);
    platform.needs_nothing_else(&dist.join("static/first"), &[]);
    ship(platform, &dist, "static");
    let said = run(platform.emulated(&dist.join("bin/softdimo")).arg("--version"));
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");

    // CMake takes it for a program of ARM64, and not for one of this machine.
    let build = dist.join("cmake");
    run(&mut configure(
        platform,
        &dist,
        &build,
        &[
            "-DCMAKE_SYSTEM_NAME=Linux",
            "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
            "-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc",
            "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
        ],
    ));
    run(platform.tool(cmake()).arg("--build").arg(&build));
    run(&mut platform.emulated(&build.join("version")));
    is_refused_here(platform, &dist, "(linux-aarch64)");
}
