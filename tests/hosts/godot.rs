//! `bindings/godot3` in Godot's server and, on a screen, in the program that runs games; `bindings/godot4` against a stand-in.

use softdimo::image::read_png;
use support::bundled;
use support::process::run;
use support::program::compiler;

use super::*;

/// A program of Godot 3 with a project, and a home of its own to write its settings to.
fn godot(mut command: Command, project: &Path) -> Command {
    let home = project.with_file_name("home");
    for folder in [".config", ".local/share", ".cache"] {
        std::fs::create_dir_all(home.join(folder)).unwrap();
    }
    command.arg("--path").arg(project).env("HOME", &home).env("LANG", "en_US.UTF-8");
    for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
        command.env_remove(variable);
    }
    command
}

#[test]
#[ignore = "needs Godot 3: make test-hosts"]
fn godot3_server() {
    let _machine = shared();
    let project = plugin("godot3", "godot3_server");
    let mut server = godot(host("godot3-server"), &project);
    let said = run(server.arg("-s").arg(source("godot3/run.gd")).arg(project.parent().unwrap()));
    assert!(said.ends_with("\nok\n"), "{said}");
    let (picture, _) = read_png(project.with_file_name("picture.png")).unwrap();
    assert_eq!(picture.data(), Expected::new().picture("red apple", 7).data());
}

/// A node with a job under way at the end of the program.
#[test]
#[ignore = "needs Godot 3: make test-hosts"]
fn godot3_quits_while_it_paints() {
    let _machine = shared();
    let project = plugin("godot3", "godot3_quit");
    let began = std::time::Instant::now();
    run(godot(host("godot3-server"), &project).arg("-s").arg(source("godot3/run.gd")).arg("quit"));
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
}

/// The demo, with `tests/hosts/godot3/check.gd` looking on.
fn demo(test: &str) -> (PathBuf, Command) {
    let project = plugin("godot3", test);
    std::fs::copy(source("godot3/check.gd"), project.join("check.gd")).unwrap();
    std::fs::write(project.join("override.cfg"), "[autoload]\nCheck=\"*res://check.gd\"\n").unwrap();
    let mut command = godot(on_screen("godot3-runner"), &project);
    command.args(["--audio-driver", "Dummy"]);
    (project, command)
}

#[test]
#[ignore = "needs Godot 3: make test-hosts"]
fn godot3_paints_on_the_screen() {
    let _machine = shared();
    let (project, mut command) = demo("godot3_screen");
    let shot = project.with_file_name("shot.png");
    run(command.env("SOFTDIMO_SHOT", &shot));
    let (screen, _) = read_png(&shot).unwrap();
    assert_eq!((screen.width(), screen.height()), (640, 480));
    // The tenth picture, as the demo counts: the first label again, with seed 9.
    let expected = Expected::new().picture("red apple", 9).enlarge(4).unwrap();
    assert!(colours(&screen) > 100, "{} colours", colours(&screen));
    assert!(same(&part(&screen, 0, 0, 128, 128), expected.data()), "{}", shot.display());
}

#[test]
#[ignore = "needs Godot 3: make test-hosts"]
fn godot3_frames() {
    let _machine = alone();
    let (_, mut command) = demo("godot3_frames");
    frames::check("Godot 3", &run(command.env_remove("SOFTDIMO_SHOT")));
}

/// Pointers are types of their own in one edition of Godot's header, and `void *` in the other: it compiles with both.
#[test]
fn godot4_compiles_with_either_header() {
    let _machine = shared();
    let folder = folder("godot4_headers");
    let header = std::fs::read_to_string(root().join("target/godot/godot4/gdextension_interface.h")).unwrap();
    let mut lines: Vec<String> = header.lines().map(String::from).collect();
    let mut plain = 0;
    for line in &mut lines {
        let opaque = line.contains("struct __Gdext") && line.starts_with("typedef ") && line.contains('*');
        if let (true, Some((_, name))) = (opaque, line.split_once('*')) {
            let constant = if line.starts_with("typedef const") { "const " } else { "" };
            *line = format!("typedef {constant}void *{name}");
            plain += 1;
        }
    }
    assert!(plain > 15, "{plain} pointers");
    std::fs::write(folder.join("gdextension_interface.h"), lines.join("\n")).unwrap();
    for headers in [folder, root().join("target/godot/godot4")] {
        run(compiler("cc")
            .args(["-std=c99", "-fsyntax-only", "-isystem"])
            .arg(headers)
            .args(["include", "bindings/godot"].map(|folder| format!("-I{}", root().join(folder).display())))
            .arg(root().join("bindings/godot4/softdimo_godot4.c")));
    }
}

/// What the extension registers and does, in a stand-in for Godot 4 that counts values.
#[test]
fn godot4_stand_in() {
    let _machine = shared();
    let addon = plugin("godot4", "godot4").join("addons/softdimo");
    let (fake, pixels) = (addon.join("fake"), addon.join("pixels"));
    run(compiler("cc")
        .args(["-std=c99", "-g", "-Wno-sign-compare", "-isystem"])
        .arg(root().join("target/godot/godot4"))
        .arg(source("godot4/fake.c"))
        .arg("-ldl")
        .arg("-o")
        .arg(&fake));
    let said = run(host(fake.to_str().unwrap())
        .arg(addon.join("libsoftdimo_godot4.so"))
        .arg(bundled())
        .arg(&pixels));
    assert_eq!(said, "ok\n");
    assert_eq!(std::fs::read(pixels).unwrap(), Expected::new().picture("red apple", 7).data());
    // What the extension's file names is there.
    let named = std::fs::read_to_string(addon.join("softdimo.gdextension")).unwrap();
    let lines = named.lines().filter(|line| line.starts_with("linux.x86_64"));
    let files: Vec<&str> = lines
        .flat_map(|line| line.split("res://addons/softdimo/").skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert_eq!(files.len(), 3, "{named}");
    for file in files {
        assert!(addon.join(file).exists(), "{file}");
    }
}
