//! `bindings/csharp` in Mono, as C# of Unity's oldest version that is supported.

use support::bundled;
use support::process::run;

use super::*;

/// Compile a program of `tests/hosts/mono` with the package's sources, into a folder with what its Plugins have; Mono finds
/// libraries beside the program.
fn program(name: &str, test: &str) -> Command {
    let package = plugin("unity", test).join("com.libsoftdimo.softdimo");
    let plugins = package.join("Plugins/x86_64");
    let program = plugins.join(format!("{name}.exe"));
    run(host("mcs")
        .args(["-langversion:7.2", "-warnaserror", "-warn:4", "-nowarn:1591"])
        .arg(format!("-out:{}", program.display()))
        .arg(format!("-doc:{}", program.with_extension("xml").display()))
        .arg(package.join("Runtime/*.cs"))
        .arg(source("mono").join(name).with_extension("cs")));
    let mut command = host("mono");
    command.arg("--debug").arg(program);
    command
}

#[test]
#[ignore = "needs Mono: make test-hosts"]
fn mono() {
    let _machine = shared();
    let mut command = program("Api", "mono");
    let folder = Path::new(command.get_args().last().unwrap()).parent().unwrap().to_path_buf();
    let pixels = folder.join("pixels");
    // A name that is UTF-8 and nothing else.
    let model = folder.join("modèle-模型.safetensors");
    std::fs::copy(bundled(), &model).unwrap();
    let said = run(command.arg(abi()).arg(&model).arg(&pixels));
    assert_eq!(said, "ok\n");
    assert_eq!(std::fs::read(pixels).unwrap(), Expected::new().picture("red apple", 7).data());
}

#[test]
#[ignore = "needs Mono: make test-hosts"]
fn mono_frames() {
    let _machine = alone();
    let said = run(program("Frames", "mono_frames").arg(bundled()).args(["10", "0.5"]));
    frames::check("Mono", &said);
}
