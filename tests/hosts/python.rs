//! The folder of `make plugin-python` in Python; what it is made of is tested, installed by pip, by `make test-python`.

use softdimo::image::read_png;
use support::process::run;

use super::*;

/// The interpreter of what builds the package, with cffi and numpy: `make tools`.
fn python() -> Command {
    host(root().join("target/python/tools/bin/python").to_str().unwrap())
}

#[test]
fn python_has_the_pictures_of_the_library() {
    let _machine = shared();
    let package = plugin("python", "python");
    let (pixels, png) = (package.join("pixels"), package.join("apple.png"));
    let program = "
import sys, softdimo
with softdimo.Engine.open(threads=1) as engine:
    picture = engine.generate('red apple', seed=7)
    assert engine.info['runtime']['path'].startswith(sys.argv[3]), engine.info['runtime']
picture.array.tofile(sys.argv[1])
picture.save(sys.argv[2], {'Title': 'an apple'})
assert softdimo.__file__.startswith(sys.argv[3]), softdimo.__file__
";
    run(python()
        .args(["-B", "-X", "dev", "-W", "error", "-c", program])
        .args([&pixels, &png, &package])
        .env("PYTHONPATH", &package));
    let expected = Expected::new().picture("red apple", 7);
    assert_eq!(std::fs::read(pixels).unwrap(), expected.data());
    let (picture, text) = read_png(png).unwrap();
    assert_eq!(picture.data(), expected.data());
    assert_eq!(text, [("Title".to_string(), "an apple".to_string())]);
}

/// cffi lays structs out as the C compiler does, and has every constant, callback and function.
#[test]
fn python_has_the_layout_of_c() {
    let package = plugin("python", "python_layout");
    let check = "
import sys
from softdimo._native import ffi, lib
checked = 0
for line in open(sys.argv[1]):
    kind, rest = line.split(' ', 1)
    name, what = rest.split('=', 1)
    if kind == 'struct':
        found, expected = ffi.sizeof(name), int(what)
    elif kind == 'field':
        struct, field = name.split('.')
        member = dict(ffi.typeof(struct).fields)[field]
        found, expected = (member.offset, ffi.sizeof(member.type)), tuple(map(int, what.split()[:2]))
    elif kind == 'constant':
        found, expected = getattr(lib, name), int(what)
    elif kind == 'function':
        found, expected = ffi.typeof(getattr(lib, name)).kind, 'function'
    else:
        found, expected = ffi.typeof(name).cname != '', True
    assert found == expected, (name, 'expected', expected, 'found', found)
    checked += 1
print(checked)
";
    let checked = run(python().args(["-B", "-c", check]).arg(abi()).env("PYTHONPATH", &package));
    let lines = std::fs::read_to_string(abi()).unwrap().lines().count();
    assert_eq!(checked.trim().parse::<usize>().unwrap(), lines);
}

#[test]
fn python_finds_no_library() {
    let package = plugin("python", "python_without");
    std::fs::remove_file(package.join("softdimo/_native/libsoftdimo.so")).unwrap();
    let output = python().args(["-B", "-c", "import softdimo"]).env("PYTHONPATH", &package).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("softdimo/_native/libsoftdimo.so"), "{said}");
}
