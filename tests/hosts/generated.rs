//! Declarations for other languages are what `bindings/c/languages` makes of the header:
//! `BLESS=1 cargo test -p libsoftdimo --test hosts generated` rewrites them.

use std::process::Command;

use super::languages::{Header, between, csharp, lua, python};
use support::process::run;
use support::{built, root};

const BEGIN: &str = "-- Generated from include/softdimo.h; do not edit.\n";
const END: &str = "-- The end of what is generated.\n";

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn generated_declarations_are_up_to_date() {
    let header = Header::parse(&read("include/softdimo.h"));
    let lua = between(&read("bindings/love/softdimo.lua"), BEGIN, END, &lua::declarations(&header));
    for (name, text) in [
        ("bindings/love/softdimo.lua", lua),
        ("bindings/csharp/Runtime/Native.cs", csharp::file(&header)),
        ("bindings/python/softdimo/_native.py", python::module(&header)),
    ] {
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(root().join(name), &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(root().join(name)).unwrap_or_default() == text,
            "{name} is not what include/softdimo.h says: run BLESS=1 cargo test -p libsoftdimo --test hosts generated"
        );
    }
}

/// Numbers that a double does not hold, and constants of every size.
#[test]
fn constants_of_64_bits() {
    let header = "#ifdef __cplusplus\n#endif\n/// A.\n#define SOFTDIMO_A 18446744073709551615\n\
                  /// B.\n#define SOFTDIMO_B -9223372036854775808\n#define SOFTDIMO_C 4294967295\n#define SOFTDIMO_D 9007199254740992\n";
    let header = Header::parse(header);
    let text = lua::declarations(&header);
    for line in [
        "A = 18446744073709551615ULL,",
        "B = -9223372036854775808LL,",
        "C = 4294967295,",
        "D = 9007199254740992,",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let text = csharp::file(&header);
    for line in ["ulong SOFTDIMO_A =", "long SOFTDIMO_B =", "uint SOFTDIMO_C =", "long SOFTDIMO_D ="] {
        assert!(text.contains(line), "{text}");
    }
}

/// Python's ctypes lay structs out as the C compiler does, and every prototype names a function of the library.
#[test]
fn python_has_the_layout_of_c() {
    let check = "
import ctypes, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from softdimo import _native
_native.declare(ctypes.CDLL(sys.argv[3]))
checked = 0
for line in open(sys.argv[2]):
    kind, rest = line.split(' ', 1)
    name, what = rest.split('=', 1)
    if kind == 'constant':
        found = expected = getattr(_native, name) if name in vars(_native) else 'nothing'
        expected = int(what)
    elif kind == 'struct':
        found, expected = ctypes.sizeof(getattr(_native, name)), int(what)
    elif kind == 'field':
        struct, field = name.split('.')
        member = getattr(getattr(_native, struct), field)
        found, expected = (member.offset, member.size), tuple(map(int, what.split()[:2]))
    elif kind == 'function':
        found, expected = name in _native.PROTOTYPES, True
    else:
        found, expected = hasattr(_native, name), True
    assert found == expected, (name, 'expected', expected, 'found', found)
    checked += 1
print(checked)
";
    let checked = run(Command::new("python3")
        .args(["-c", check])
        .arg(root().join("bindings/python"))
        .arg(root().join("tests/capi/abi.txt"))
        .arg(built::library().join("libsoftdimo.so")));
    assert_eq!(checked.trim().parse::<usize>().unwrap(), read("tests/capi/abi.txt").lines().count());
}
