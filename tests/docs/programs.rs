//! The C and C++ of the pages and of the headers' opening comments, compiled and run.

use std::path::{Path, PathBuf};

use softdimo::image::read_png;
use support::platform::platform;
use support::program::{self, compiles};
use support::{built, bundled};

use super::pages::{all, blocks, read};

/// What the fragments of the pages use without declaring it.
const SURROUNDINGS: &str = "#include <softdimo.h>
#include <stddef.h>
int32_t fragment(softdimo_engine *engine, softdimo_job *job, softdimo_layout layout, softdimo_request request,
                 softdimo_image image, softdimo_image result, uint32_t row_pitch, void *mapped, const float *mask);
int32_t fragment(softdimo_engine *engine, softdimo_job *job, softdimo_layout layout, softdimo_request request,
                 softdimo_image image, softdimo_image result, uint32_t row_pitch, void *mapped, const float *mask) {
  int32_t status;
BLOCK
  return status;
}
";

/// A text as a file and what compiles it as strictly as can be; `name` has the language as its extension.
fn source(name: &str, text: &str) -> (PathBuf, &'static str, &'static str) {
    let file = built::library().join(name);
    std::fs::write(&file, text).unwrap();
    match name.ends_with(".cpp") {
        true => (file, "c++", "-std=c++17"),
        false => (file, "cc", "-std=c99"),
    }
}

/// Compile and run a program: it makes a picture, and fails with a message that names the thing.
fn check(name: &str, text: &str, options: &[&str]) {
    let (source, compiler, standard) = source(name, text);
    // `smallest.c` and `smallest.cpp` run side by side.
    let picture = source.with_file_name(format!("{name}.png"));
    // As the pages say: MODEL LABEL OUT.png.
    let run = |model: &Path, label: &str| {
        let _ = std::fs::remove_file(&picture);
        let options = [&[standard], options].concat();
        let mut program = program::compile(compiler, &options, &source, name);
        program.args([model, Path::new(label), &picture]).output().unwrap()
    };
    let model = bundled();
    let said = run(&model, "red apple");
    assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(platform().complaints(&said.stderr), "", "{name}");
    let (image, _) = read_png(&picture).unwrap();
    assert_eq!((image.width(), image.height()), (32, 32), "{name}");
    let (first, rest) = image.data().split_first_chunk::<4>().unwrap();
    assert!(rest.chunks(4).filter(|pixel| pixel != first).count() > 100, "{name}: a uniform picture");

    let nowhere = Path::new("no-such-model");
    for (model, label, named) in
        [(nowhere, "red apple", "no-such-model"), (&*model, "rad apple", "'rad apple'")]
    {
        let said = run(model, label);
        let message = platform().complaints(&said.stderr);
        assert_eq!(said.status.code(), Some(1), "{name}: {message}");
        assert!(message.contains(named) && !picture.exists(), "{name}: {message}");
    }
}

/// The program in the opening comment of a header: its indented block.
fn opening_program(header: &str) -> String {
    let comment = header.split_once("*/").unwrap().0;
    let lines = comment.lines().skip_while(|line| !line.starts_with(" *     #include"));
    let block = lines.take_while(|line| *line == " *" || line.starts_with(" *     "));
    block.map(|line| line.get(7..).unwrap_or("")).collect::<Vec<_>>().join("\n").trim_end().to_string()
}

#[test]
fn the_smallest_program_of_readme_and_header() {
    let readme = blocks(&read("README.md"), "c");
    let program = opening_program(&read("include/softdimo.h"));
    assert_eq!(readme, [program.as_str()]);
    check("smallest.c", &program, &[]);
}

#[test]
fn the_smallest_program_of_the_cpp_header() {
    check("smallest.cpp", &opening_program(&read("bindings/cpp/softdimo.hpp")), &[]);
}

#[test]
fn programs_and_fragments_of_the_pages() {
    let (mut programs, mut fragments) = (0, 0);
    for (page, text) in all().iter().filter(|(page, _)| *page != "README.md") {
        let page = page.replace(['/', '.'], "_");
        for (i, block) in blocks(text, "c").iter().enumerate() {
            let name = format!("{page}_{i}.c");
            if block.contains("int main(") {
                check(&name, block, &[]);
                programs += 1;
                continue;
            }
            let whole = match block.contains("\nstatic ") {
                true => format!("#include <softdimo.h>\n#include <stddef.h>\n{block}"),
                false => SURROUNDINGS.replace("BLOCK", block),
            };
            let (source, compiler, standard) = source(&name, &whole);
            compiles(compiler, &[standard, "-Wno-unused-function", "-Wno-unused-parameter"], &source);
            fragments += 1;
        }
        for (i, block) in blocks(text, "cpp").iter().enumerate() {
            let bare = block.contains("without exceptions");
            let options: &[&str] = if bare { &["-fno-exceptions", "-fno-rtti"] } else { &[] };
            check(&format!("{page}_{i}.cpp"), block, options);
            programs += 1;
        }
    }
    assert!(programs >= 5 && fragments >= 3, "{programs} programs, {fragments} fragments");
}
