//! Declarations for other languages are what `bindings/c/languages` makes of the header:
//! `BLESS=1 cargo test -p libsoftdimo --test hosts generated` rewrites them.

use super::languages::{Header, between, csharp, lua};
use support::root;

const BEGIN: &str = "-- Generated from include/softdimo.h; do not edit.\n";
const END: &str = "-- The end of what is generated.\n";

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn generated_declarations_are_up_to_date() {
    let header = Header::parse(&read("include/softdimo.h"));
    let lua = between(&read("bindings/love/softdimo.lua"), BEGIN, END, &lua::declarations(&header));
    for (name, text) in
        [("bindings/love/softdimo.lua", lua), ("bindings/csharp/Runtime/Native.cs", csharp::file(&header))]
    {
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
