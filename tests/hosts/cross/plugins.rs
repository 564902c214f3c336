//! `make plugins`, then `make plugins TARGET=windows-x86_64`: folders of projects that are exported for both.

use support::built::library;
use support::program::STRICT;
use support::runtime;

use super::*;

#[test]
#[ignore = "needs scripts/cross install: make test-dist"]
fn windows_beside_linux() {
    let _turn = turn();
    let platform = Abroad::Windows;
    let folder = folder("cross_plugins");
    let plugins = format!("PLUGINS={}", folder.display());
    run(Command::new("make")
        .args(["plugins", &plugins])
        .arg(format!("BUILD={}", library().display()))
        .arg(format!("ORT={}", runtime().display()))
        .current_dir(root()));
    let of_linux = files(&folder);
    run(platform.make("plugins").arg(&plugins));

    let unity = "unity/com.libsoftdimo.softdimo/Plugins/x86_64";
    let (godot3, godot4) = ("godot3/addons/softdimo", "godot4/addons/softdimo");
    let mut expected = of_linux.clone();
    for place in ["love", unity, godot3, godot4, "python/softdimo/_native"] {
        expected.extend(["softdimo.dll", "onnxruntime.dll"].map(|name| format!("{place}/{name}")));
        assert_eq!(platform.exports(&folder.join(place).join("softdimo.dll")), declared());
    }
    expected.extend(["softdimo.dll.meta", "onnxruntime.dll.meta"].map(|name| format!("{unity}/{name}")));
    expected.extend([format!("{godot3}/softdimo_godot3.dll"), format!("{godot4}/softdimo_godot4.dll")]);
    let licences = ["love/licences", "unity/com.libsoftdimo.softdimo/Licences~", "python/softdimo/licences"];
    let licences = licences.map(String::from).into_iter();
    for place in licences.chain([godot3, godot4].map(|folder| format!("{folder}/licences"))) {
        let own = ["gcc-runtime.txt", "mingw-w64.txt", "rust-library.txt"];
        expected.extend(own.map(|name| format!("{place}/{name}")));
    }
    assert_eq!(files(&folder), expected);

    tells_unity(&folder.join(unity));
    for place in [godot3, godot4] {
        names_what_is_there(&folder.join(place));
    }
    let entries =
        ["godot_gdnative_init", "godot_gdnative_terminate", "godot_nativescript_init"].map(String::from);
    let node = folder.join(godot3).join("softdimo_godot3.dll");
    assert_eq!(platform.exports(&node), BTreeSet::from(entries));
    platform.needs_nothing_else(&node, &["softdimo.dll"]);
    let node = folder.join(godot4).join("softdimo_godot4.dll");
    assert_eq!(platform.exports(&node), BTreeSet::from(["softdimo_godot4_entry".to_string()]));
    platform.needs_nothing_else(&node, &["softdimo.dll"]);
    runs_in_the_stand_in(&node, &folder);
}

/// One identity for each library, and one system.
fn tells_unity(plugins: &Path) {
    let mut guids = BTreeSet::new();
    for (name, system, player) in [
        ("libsoftdimo.so", "Linux", "Linux64"),
        ("libonnxruntime.so", "Linux", "Linux64"),
        ("softdimo.dll", "Windows", "Win64"),
        ("onnxruntime.dll", "Windows", "Win64"),
    ] {
        let meta = std::fs::read_to_string(plugins.join(format!("{name}.meta"))).unwrap();
        assert!(meta.contains(&format!("        OS: {system}\n")), "{name}: {meta}");
        assert!(meta.contains(&format!("  - first:\n      Standalone: {player}\n")), "{name}: {meta}");
        let guid = meta.lines().find_map(|line| line.strip_prefix("guid: ")).unwrap();
        assert!(guid.len() == 32 && guid.bytes().all(|b| b.is_ascii_hexdigit()), "{name}: {guid}");
        assert!(guids.insert(guid.to_string()), "{name}: {guid} is another's");
    }
}

/// The files that Godot's description of the addon names, of both systems.
fn names_what_is_there(addon: &Path) {
    let mut paths = std::fs::read_dir(addon).unwrap().map(|entry| entry.unwrap().path());
    let is_description =
        |path: &PathBuf| path.extension().is_some_and(|e| e == "gdnlib" || e == "gdextension");
    let description = paths.find(is_description).unwrap();
    let text = std::fs::read_to_string(&description).unwrap();
    let named: BTreeSet<&str> =
        text.split("res://addons/softdimo/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(named.len(), 6, "{text}");
    for name in named {
        assert!(addon.join(name).exists(), "{}: {name}", description.display());
    }
}

/// Every method and signal, by a program that loads the node as Godot does on Windows.
fn runs_in_the_stand_in(node: &Path, folder: &Path) {
    let platform = Abroad::Windows;
    // In a folder of its own: all libraries are found in the node's.
    let (program, pixels) = (folder.join("fake.exe"), folder.join("pixels"));
    run(platform
        .tool(platform.compiler())
        .args(STRICT)
        .args(["-std=c99", "-Wno-sign-compare", "-static", "-isystem"])
        .arg(root().join("target/godot/godot4"))
        .arg(root().join("tests/hosts/godot4/fake.c"))
        .arg("-o")
        .arg(&program));
    let windows = |path: &Path| format!("Z:{}", path.display()).replace('/', "\\");
    let said = run(platform
        .emulated(&program)
        .args([windows(node), windows(&bundled()), windows(&pixels)])
        .current_dir("/"));
    assert_eq!(said.replace('\r', ""), "ok\n");
    let expected = Expected::new().picture("red apple", 7);
    let pixels = std::fs::read(pixels).unwrap();
    nearly(&RgbaImage::new(32, 32, pixels).unwrap(), &expected);
}
