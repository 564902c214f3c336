//! The C and C++ of the pages and of the headers' opening comments, compiled and run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use softdimo::image::read_png;

use super::pages::{all, blocks, read, root};

const MODEL: &str = "models/emoji-32.softdimo.safetensors";
const STRICT: [&str; 4] = ["-Wall", "-Wextra", "-pedantic", "-Werror"];

/// What the fragments of the pages use without declaring it.
const SURROUNDINGS: &str = "#include <softdimo.h>
int32_t fragment(softdimo_engine *engine, softdimo_job *job, softdimo_layout layout, softdimo_request request,
                 softdimo_image image, softdimo_image result, uint32_t row_pitch, void *mapped, const float *mask);
int32_t fragment(softdimo_engine *engine, softdimo_job *job, softdimo_layout layout, softdimo_request request,
                 softdimo_image image, softdimo_image result, uint32_t row_pitch, void *mapped, const float *mask) {
  int32_t status;
BLOCK
  return status;
}
";

/// A folder with the shared library, which cargo builds beside this test, under the names that programs want.
fn library() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs_programs");
        std::fs::create_dir_all(&folder).unwrap();
        let built = std::env::current_exe().unwrap().with_file_name("libsoftdimo.so");
        let version = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));
        for name in ["libsoftdimo.so".to_string(), format!("libsoftdimo.so.{version}")] {
            let _ = std::fs::remove_file(folder.join(&name));
            std::os::unix::fs::symlink(&built, folder.join(&name)).unwrap();
        }
        folder
    })
}

/// Compile a text as strictly as can be; `name` has the language as its extension. Without `link`, the object only.
fn compile(name: &str, text: &str, options: &[&str], link: bool) -> PathBuf {
    let source = library().join(name);
    std::fs::write(&source, format!("{text}\n")).unwrap();
    let (variable, compiler, standard) = match name.ends_with(".cpp") {
        true => ("CXX", "c++", "-std=c++17"),
        false => ("CC", "cc", "-std=c99"),
    };
    let program = source.with_extension("");
    let mut command = Command::new(std::env::var_os(variable).unwrap_or_else(|| compiler.into()));
    command.arg(standard).args(STRICT).args(options).arg(&source);
    command.args(["include", "bindings/cpp"].map(|folder| format!("-I{}", root().join(folder).display())));
    if link {
        command
            .arg(format!("-L{}", library().display()))
            .args(["-lsoftdimo", "-pthread", "-o"])
            .arg(&program);
    } else {
        command.args(["-c", "-o", "/dev/null"]);
    }
    let output = command.output().expect("a C and a C++ compiler");
    assert!(output.status.success(), "{name}:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// Run a program as the pages say: MODEL LABEL OUT.png.
fn run(program: &Path, model: &Path, label: &str, picture: &Path) -> Output {
    let _ = std::fs::remove_file(picture);
    Command::new(program)
        .args([model, Path::new(label), picture])
        .env("LD_LIBRARY_PATH", library())
        .output()
        .unwrap()
}

/// Compile and run a program: it makes a picture, and fails with a message that names the thing.
fn check(name: &str, text: &str, options: &[&str]) {
    let program = compile(name, text, options, true);
    let (model, picture) = (root().join(MODEL), program.with_extension("png"));
    let said = run(&program, &model, "red apple", &picture);
    assert!(said.status.success(), "{name}: {}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(String::from_utf8_lossy(&said.stderr), "", "{name}");
    let (image, _) = read_png(&picture).unwrap();
    assert_eq!((image.width(), image.height()), (32, 32), "{name}");
    let (first, rest) = image.data().split_first_chunk::<4>().unwrap();
    assert!(rest.chunks(4).filter(|pixel| pixel != first).count() > 100, "{name}: a uniform picture");

    let nowhere = library().join("no-such-model");
    for (model, label, named) in
        [(&nowhere, "red apple", "no-such-model"), (&model, "rad apple", "'rad apple'")]
    {
        let said = run(&program, model, label, &picture);
        let message = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(1), "{name}: {message}");
        assert!(message.contains(named) && !picture.exists(), "{name}: {message}");
    }
}

/// The program in the opening comment of a header: its indented block.
fn opening_program(header: &str) -> String {
    let comment = header.split_once("*/").unwrap().0;
    let lines = comment.lines().skip_while(|line| !line.starts_with(" *     "));
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
                true => format!("#include <softdimo.h>\n{block}"),
                false => SURROUNDINGS.replace("BLOCK", block),
            };
            compile(&name, &whole, &["-Wno-unused-function", "-Wno-unused-parameter"], false);
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
