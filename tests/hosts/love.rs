//! `bindings/love` in LÖVE, on a screen, and in LuaJIT alone.

use softdimo::image::read_png;
use support::bundled;
use support::process::run;

use super::*;

#[test]
#[ignore = "needs LuaJIT: make test-hosts"]
fn luajit() {
    let _machine = shared();
    let folder = folder("luajit");
    let pixels = folder.join("pixels");
    let said = run(host("luajit")
        .arg(source("luajit/api.lua"))
        .arg(abi())
        .arg(bundled())
        .arg(&pixels)
        .env("LUA_PATH", root().join("bindings/love/?.lua"))
        .env("SOFTDIMO_LIBRARY", library().join("libsoftdimo.so"))
        .env("SOFTDIMO_ORT_LIBRARY", runtime()));
    assert_eq!(said, "ok\n");
    assert_eq!(std::fs::read(pixels).unwrap(), Expected::new().picture("red apple", 7).data());
}

/// Without a library the error says where it was looked for; one of another ABI is refused.
#[test]
#[ignore = "needs LuaJIT: make test-hosts"]
fn luajit_finds_no_library() {
    let _machine = shared();
    let folder = folder("luajit_alone");
    std::fs::copy(root().join("bindings/love/softdimo.lua"), folder.join("softdimo.lua")).unwrap();
    let output = host("luajit").args(["-e", "require 'softdimo'"]).current_dir(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("expected libsoftdimo.so in ., or named by SOFTDIMO_LIBRARY"), "{said}");
}

/// The game paints its grid: what is on the screen is, pixel for pixel, what the library makes of label and seed.
#[test]
#[ignore = "needs LÖVE: make test-hosts"]
fn love_paints_sprites() {
    let _machine = shared();
    let game = plugin("love", "love");
    let shot = game.with_file_name("shot.png");
    // Twice round the grid's 45 cells, so that cells are painted over.
    let said = run(on_screen("love").arg(&game).arg("--shot").arg(&shot).arg("90"));
    let (screen, _) = read_png(&shot).unwrap();
    assert_eq!((screen.width(), screen.height()), (640, 480));
    assert!(colours(&screen) > 1000, "{} colours", colours(&screen));

    let expected = Expected::new();
    let cells: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("cell ")).collect();
    assert_eq!(cells.len(), 45, "{said}");
    for cell in cells {
        let words: Vec<&str> = cell.splitn(5, ' ').collect();
        let [x, y, scale, seed] = [0, 1, 2, 3].map(|i| words[i].parse::<usize>().unwrap());
        assert!(seed > 45, "{cell}");
        let picture = expected.picture(words[4], seed as u64).enlarge(scale as u32).unwrap();
        let size = 32 * scale;
        assert!(same(&part(&screen, x, y, size, size), picture.data()), "{cell}");
    }
}

#[test]
#[ignore = "needs LÖVE: make test-hosts"]
fn love_frames() {
    let _machine = alone();
    let game = plugin("love", "love_frames");
    let said = run(on_screen("love").arg(&game).args(["--measure", "10", "0.5"]));
    frames::check("LÖVE", &said);
}
