//! Makes `include/softdimo.h`. cbindgen writes the declarations: constants, then types, then functions. A reader wants
//! one subject after the other, so they are put in the order of the sources here: a file is a section, its first
//! lines (`//!`) are the section's heading, and declarations that touch in the source touch in the header.

use std::collections::HashMap;
use std::path::Path;

/// Files of `src` and the names of their sections, in reading order: what every program calls, then the rest.
pub const SECTIONS: [(&str, &str); 13] = [
    ("error", "Errors"),
    ("engine", "Engines"),
    ("picture", "Pictures"),
    ("request", "Requests"),
    ("generate", "Generating"),
    ("job", "Jobs"),
    ("result", "Results of a job"),
    ("opening", "Opening without waiting"),
    ("describe", "What a model is"),
    ("memory", "Memory"),
    ("edit", "Editing"),
    ("reward", "Rewards"),
    ("version", "Versions and providers"),
];

const GUARD: &str = "SOFTDIMO_H";

/// The header of the package in this folder. `readme` is the text whose first C program opens it.
pub fn header(package: &Path, readme: &str) -> String {
    let config = package.join("cbindgen.toml");
    let mut config = cbindgen::Config::from_file(config).expect("cbindgen.toml is read");
    let opening = config.header.take().expect("cbindgen.toml has a header");
    let files = SECTIONS.map(|(file, _)| package.join("src").join(file).with_extension("rs"));
    let sources = files.each_ref().map(|f| std::fs::read_to_string(f).expect("a file of SECTIONS"));
    let builder = files.iter().fold(cbindgen::Builder::new().with_config(config), |b, f| b.with_src(f));
    let mut declarations = Vec::new();
    builder.generate().expect("cbindgen reads the sources").write(&mut declarations);
    let declarations = String::from_utf8(declarations).expect("cbindgen writes UTF-8");

    let mut places = Places::new(&sources);
    let mut blocks: Vec<(Place, &str)> =
        declarations.trim().split("\n\n").map(|b| (places.of(b), b)).collect();
    blocks.sort_by_key(|(place, _)| (place.file, place.line));

    let mut text =
        opening.replace("@PROGRAM@", &comment(first_program(readme))).replace("@SECTIONS@", &contents());
    text += &format!("\n#ifndef {GUARD}\n#define {GUARD}\n\n#include <stdint.h>\n\n");
    text += "#ifdef __cplusplus\nextern \"C\" {\n#endif\n";
    for (file, (name, title)) in SECTIONS.into_iter().enumerate() {
        text += &heading(name, title, &sources[file]);
        for (place, block) in blocks.iter().filter(|(place, _)| place.file == file) {
            text += if place.follows { "" } else { "\n" };
            text += &format!("{block}\n");
        }
        text += "\n/** @} */\n";
    }
    text + &format!("\n#ifdef __cplusplus\n}}\n#endif\n\n#endif /* {GUARD} */\n")
}

/// Where a declaration stands in the sources.
struct Place {
    file: usize,
    line: usize,
    /// A constant that follows another without an empty line between them.
    follows: bool,
}

/// Names of public items to their places.
struct Places(HashMap<String, Place>);

impl Places {
    fn new(sources: &[String]) -> Places {
        let mut places = HashMap::new();
        for (file, source) in sources.iter().enumerate() {
            let mut touches = false;
            for (line, text) in source.lines().enumerate() {
                if let Some(name) = public_item(text) {
                    places.insert(name.to_string(), Place { file, line, follows: touches });
                    touches = text.starts_with("pub const ");
                } else {
                    touches &= text.starts_with("///");
                }
            }
        }
        Places(places)
    }

    /// The place of a declaration, which is taken out.
    fn of(&mut self, block: &str) -> Place {
        let name = declared_name(block).unwrap_or_else(|| panic!("what is declared here?\n{block}"));
        self.0.remove(name).unwrap_or_else(|| panic!("'{name}' is in none of the files of SECTIONS"))
    }
}

/// The name that a line of Rust makes public: `pub const NAME: ..`, `pub unsafe extern "C" fn NAME(..`.
fn public_item(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ")?;
    let rest = ["unsafe extern \"C\" fn ", "extern \"C\" fn ", "const ", "struct ", "type "]
        .iter()
        .find_map(|kind| rest.strip_prefix(kind))?;
    rest.split(|c: char| !is_name(c)).next()
}

/// The name that a declaration of the header is about.
fn declared_name(block: &str) -> Option<&str> {
    let line = block.lines().find(|line| !line.starts_with("//"))?;
    if let Some(rest) = line.strip_prefix("#define ") {
        return rest.split(' ').next();
    }
    match line.strip_prefix("typedef ") {
        // typedef struct NAME {, typedef struct NAME NAME; typedef int32_t (*NAME)(..
        Some(rest) if rest.starts_with("struct ") => names(rest).nth(1),
        Some(rest) => names(rest.split_once("(*")?.1).next(),
        // TYPE NAME(..
        None => names(line.split_once('(')?.0).last(),
    }
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_name(c)).filter(|name| !name.is_empty())
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The first ```c block of a Markdown text.
pub fn first_program(markdown: &str) -> &str {
    let (_, rest) = markdown.split_once("\n```c\n").expect("the README has a C program");
    rest.split_once("\n```").expect("its end").0
}

/// Lines for the inside of a block comment, as an indented block of code.
fn comment(program: &str) -> String {
    assert!(!program.contains("*/"), "the program stands inside a comment");
    let lines =
        program.lines().map(|line| if line.is_empty() { String::new() } else { format!("     {line}") });
    lines.collect::<Vec<_>>().join("\n *")
}

/// The sections by name.
fn contents() -> String {
    SECTIONS.map(|(_, title)| format!(" - {title}")).join("\n *")
}

/// A section's heading, a group for Doxygen.
fn heading(name: &str, title: &str, source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!")).map(|line| format!(" *{line}\n"));
    format!("\n/**\n * @defgroup {name} {title}\n{} * @{{\n */\n", lines.collect::<String>())
}
