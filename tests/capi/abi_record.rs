//! The binary interface of `include/softdimo.h`: the size of every struct, the place of every field, the value of every
//! constant, the type of every function. What is recorded in `tests/capi/abi.txt` and what released headers declare stays as
//! it is; what is added moves `SOFTDIMO_ABI_VERSION`. `BLESS=1 cargo test -p libsoftdimo --test capi abi_is_as_recorded`
//! records what was added.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use support::platform::platform;
use support::process;
use support::program::compiler;
use support::root;

/// What a header declares: kind and name to what must not change. Fields are named `STRUCT.FIELD`.
type Table = BTreeMap<String, String>;

const VERSION: &str = "constant SOFTDIMO_ABI_VERSION";

/// Declarations of a header, without comments, on one line each.
fn declarations(header: &str) -> Vec<String> {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, after)) = rest.split_once("/*") {
        code += before;
        rest = after.split_once("*/").expect("the end of a comment").1;
    }
    code += rest;
    let lines = code.lines().map(|line| line.split("//").next().unwrap().trim());
    let (directives, lines): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with('#'));
    let mut found: Vec<String> = directives
        .into_iter()
        .filter(|line| line.starts_with("#define SOFTDIMO_"))
        .map(String::from)
        .collect();
    let (mut declaration, mut depth) = (String::new(), 0);
    let text = lines.join(" ").replace("extern \"C\" {", "");
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c == ';' && depth == 0 {
            found.push(one_space(&std::mem::take(&mut declaration)));
        } else {
            declaration.push(c);
        }
    }
    found
}

fn one_space(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The last name of a declarator such as `uint32_t reserved[7]` or `const char *label`.
fn declared(text: &str) -> &str {
    let text = text.split('[').next().unwrap();
    text.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap()
}

/// What `header` declares. Sizes, places and values are what the C compiler says of them.
fn table(header: &Path) -> Table {
    let text = std::fs::read_to_string(header).unwrap();
    let mut table = Table::new();
    let mut program =
        String::from("#include <softdimo.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n");
    for declaration in declarations(&text) {
        if let Some(rest) = declaration.strip_prefix("#define ") {
            let mut words = rest.splitn(2, ' ');
            // Not the guard, which has no value.
            let (Some(name), Some(_)) = (words.next(), words.next()) else { continue };
            writeln!(program, "printf(\"constant {name}=%lld\\n\", (long long){name});").unwrap();
        } else if let Some((head, body)) = declaration.split_once('{') {
            let name = head.strip_prefix("typedef struct ").expect("a struct").trim();
            let (fields, _) = body.rsplit_once('}').unwrap();
            writeln!(program, "printf(\"struct {name}=%zu\\n\", sizeof({name}));").unwrap();
            for field in fields.split(';').map(str::trim).filter(|field| !field.is_empty()) {
                assert!(!field.contains('('), "name the type of the function: {field}");
                let member = declared(field);
                writeln!(
                    program,
                    "printf(\"field {name}.{member}=%3zu %2zu {field}\\n\", offsetof({name}, {member}), \
                     sizeof((({name} *)0)->{member}));"
                )
                .unwrap();
            }
        } else if let Some(rest) = declaration.strip_prefix("typedef ") {
            let name = match rest.split_once("(*") {
                Some((_, rest)) => rest.split(')').next().unwrap(),
                None => declared(rest),
            };
            table.insert(format!("type {name}"), rest.into());
        } else if let Some((head, _)) = declaration.split_once('(') {
            table.insert(format!("function {}", declared(head.trim())), declaration.clone());
        } else {
            assert_eq!(declaration.trim(), "}", "what is declared here?");
        }
    }
    program += "return 0;\n}\n";
    let folder = tempfile::tempdir().unwrap();
    let (source, binary) = (folder.path().join("abi.c"), folder.path().join("abi.exe"));
    std::fs::write(&source, program).unwrap();
    let mut cc = compiler("cc");
    process::run(
        cc.args(["-std=c99", "-I"]).arg(header.parent().unwrap()).arg(source).arg("-o").arg(&binary),
    );
    for line in process::run(&mut platform().run(&binary, folder.path())).lines() {
        let (name, value) = line.split_once('=').unwrap();
        table.insert(name.into(), value.into());
    }
    table
}

fn print(table: &Table) -> String {
    table.iter().map(|(name, what)| format!("{name}={what}\n")).collect()
}

fn parse(text: &str) -> Table {
    let line = |line: &str| line.split_once('=').map(|(name, what)| (name.to_string(), what.to_string()));
    text.lines().filter_map(line).collect()
}

fn version(table: &Table) -> (u32, u32) {
    let number: u32 = table[VERSION].parse().unwrap();
    (number >> 16, number & 0xffff)
}

/// What programs built with `old` may stumble over that run with a library of `new`, and what the versions do not say.
fn broken(old: &Table, new: &Table) -> Vec<String> {
    let ((old_major, old_minor), (new_major, new_minor)) = (version(old), version(new));
    if new_major > old_major {
        return Vec::new();
    }
    let mut problems = Vec::new();
    let mut grew = None;
    for (name, was) in old.iter().filter(|(name, _)| *name != VERSION) {
        let now = new.get(name);
        if now == Some(was) {
            continue;
        }
        let size = |text: &String| text.parse::<usize>().unwrap();
        let reserved = name.split_once('.').is_some_and(|(_, field)| field.starts_with("reserved"));
        match now {
            // A struct may grow, and reserved fields become others.
            Some(now) if name.starts_with("struct ") && size(now) > size(was) => grew = Some(name),
            _ if reserved => grew = Some(name),
            Some(now) => problems.push(format!("{name}: expected {was}, found {now}")),
            None => problems.push(format!("{name}: expected {was}, found nothing of this name")),
        }
    }
    let added = new.keys().find(|name| !old.contains_key(*name));
    if let Some(name) = grew.or(added)
        && new_minor <= old_minor
    {
        let expected = format!("SOFTDIMO_ABI_VERSION above {old_major}.{old_minor}, as something was added");
        problems.push(format!("{name}: expected {expected}, found {new_major}.{new_minor}"));
    }
    problems
}

/// Headers of releases, the oldest first.
pub fn released() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(root().join("tests/capi/released")).unwrap();
    let mut headers: Vec<PathBuf> = folders.map(|f| f.unwrap().path().join("softdimo.h")).collect();
    headers.retain(|header| header.exists());
    headers.sort();
    assert!(!headers.is_empty());
    headers
}

#[test]
fn abi_is_as_recorded() {
    let now = table(&root().join("include/softdimo.h"));
    for header in released() {
        let problems = broken(&table(&header), &now);
        assert!(problems.is_empty(), "programs built with {}: {problems:#?}", header.display());
    }
    let record = root().join("tests/capi/abi.txt");
    let recorded = std::fs::read_to_string(&record).unwrap_or_default();
    if recorded == print(&now) {
        return;
    }
    if !recorded.is_empty() {
        let problems = broken(&parse(&recorded), &now);
        assert!(problems.is_empty(), "tests/capi/abi.txt: {problems:#?}");
    }
    assert!(
        std::env::var_os("BLESS").is_some(),
        "include/softdimo.h has more than tests/capi/abi.txt says: \
         run BLESS=1 cargo test -p libsoftdimo --test capi abi_is_as_recorded"
    );
    std::fs::write(record, print(&now)).unwrap();
}

/// The gate itself: every kind of change is told from every other.
#[test]
fn changes_of_the_abi_are_told_apart() {
    let old = parse(
        "constant SOFTDIMO_ABI_VERSION=65536\nconstant A=1\nstruct s=16\nfield s.a=  0  4 uint32_t a\n\
         field s.reserved=  4 12 uint32_t reserved[3]\nfunction f=int f(void)\n",
    );
    let change = |changes: &[(&str, Option<&str>)]| {
        let mut new = old.clone();
        for (name, what) in changes {
            match what {
                Some(what) => drop(new.insert(name.to_string(), what.to_string())),
                None => drop(new.remove(*name)),
            }
        }
        broken(&old, &new).join("\n")
    };
    let (same, minor, major) = ("65536", "65537", "131072");
    assert_eq!(change(&[]), "");
    for (name, what, allowed) in [
        ("constant A", Some("2"), false),
        ("constant A", None, false),
        ("field s.a", Some("  4  4 uint32_t a"), false),
        ("field s.a", Some("  0  4 int32_t a"), false),
        ("field s.a", None, false),
        ("struct s", Some("12"), false),
        ("function f", Some("int f(int)"), false),
        ("function f", None, false),
        ("struct s", Some("24"), true),
        ("field s.b", Some(" 16  8 uint64_t b"), true),
        ("field s.reserved", Some("  8  8 uint32_t reserved[2]"), true),
        ("function g", Some("int g(void)"), true),
        ("constant B", Some("3"), true),
    ] {
        let with = |version| change(&[(name, what), (VERSION, Some(version))]);
        assert!(with(same).contains(name), "{name} {what:?}: {}", with(same));
        assert_eq!(with(minor).is_empty(), allowed, "{name} {what:?}: {}", with(minor));
        assert_eq!(with(major), "", "{name} {what:?}");
    }
}

#[test]
fn every_declaration_is_in_the_table() {
    let header = root().join("include/softdimo.h");
    let (text, table) = (std::fs::read_to_string(&header).unwrap(), table(&header));
    let count = |kind: &str| table.keys().filter(|name| name.starts_with(kind)).count();
    let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(count("constant "), lines("#define SOFTDIMO_") - 1, "all but the guard");
    assert_eq!(
        count("struct "),
        text.matches("typedef struct").count() - count("type softdimo_") + callbacks(&table)
    );
    assert!(count("function ") >= 33 && count("field ") >= 80, "{table:#?}");
}

fn callbacks(table: &Table) -> usize {
    table.values().filter(|what| what.contains("(*")).count()
}
