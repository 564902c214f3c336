//! Structs, constants and prototypes for Python's ctypes.

use super::{Header, Kind, Signature, Type, scalar};

const OPENING: &str = r#""""What softdimo.h declares, for ctypes. Generated from include/softdimo.h; do not edit.

declare(library) gives the functions of a loaded library their types.
"""
import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure
"#;

/// `bindings/python/softdimo/_native.py`.
pub fn module(header: &Header) -> String {
    let mut text = String::from(OPENING);
    let mut functions = String::new();
    let mut after_constant = false;
    for item in &header.items {
        let name = &item.name;
        let comment: String = item.docs.iter().map(|line| format!("# {line}\n")).collect();
        let docs = docstring(&item.docs);
        let constant = matches!(item.kind, Kind::Constant(_));
        match &item.kind {
            Kind::Section => text += &format!("\n# {name}\n"),
            Kind::Constant(value) => {
                text += if after_constant { "" } else { "\n" };
                text += &format!("{comment}{name} = {value}\n");
            }
            Kind::Opaque => text += &format!("\n\nclass {name}(Structure):\n{docs}"),
            Kind::Callback(of) => {
                let parameters = of.parameters.iter().map(|(_, of)| type_name(header, of));
                let types: Vec<String> =
                    std::iter::once(result_name(header, &of.result)).chain(parameters).collect();
                text += &format!("\n\n{comment}{name} = CFUNCTYPE({})\n", types.join(", "));
            }
            Kind::Struct(fields) => {
                text += &format!("\n\nclass {name}(Structure):\n{docs}    _fields_ = [\n");
                for field in fields {
                    for line in &field.docs {
                        text += &format!("        # {line}\n");
                    }
                    let mut of = type_name(header, &field.of);
                    if field.count > 0 {
                        of = format!("{of} * {}", field.count);
                    }
                    text += &format!("        (\"{}\", {of}),\n", field.name);
                }
                text += "    ]\n";
            }
            Kind::Function(of) => functions += &prototype(header, name, of),
        }
        after_constant = constant;
    }
    text + "\n\nPROTOTYPES = {\n"
        + &functions
        + "}\n\n\ndef declare(library):\n    \"\"\"Give the functions of a `ctypes.CDLL` their types.\"\"\"\n"
        + "    for name, (result, arguments) in PROTOTYPES.items():\n        function = getattr(library, name)\n"
        + "        function.restype, function.argtypes = result, arguments\n"
}

fn docstring(docs: &[String]) -> String {
    let text = docs.join("\n    ").replace('\\', "\\\\");
    format!("    \"\"\"{text}\"\"\"\n")
}

fn prototype(header: &Header, name: &str, of: &Signature) -> String {
    let arguments: Vec<String> = of.parameters.iter().map(|(_, of)| type_name(header, of)).collect();
    format!("    \"{name}\": ({}, [{}]),\n", result_name(header, &of.result), arguments.join(", "))
}

fn result_name(header: &Header, of: &Type) -> String {
    let nothing = of.name == "void" && of.pointers == 0;
    if nothing { "None".into() } else { type_name(header, of) }
}

fn type_name(header: &Header, of: &Type) -> String {
    let (base, mut pointers) = match (of.name.as_str(), of.pointers) {
        ("char", n) if n > 0 => ("ctypes.c_char_p".into(), n - 1),
        ("void", n) if n > 0 => ("ctypes.c_void_p".into(), n - 1),
        ("char", n) => ("ctypes.c_char".into(), n),
        (name, n) => match scalar(name) {
            Some((4, 'f')) => ("ctypes.c_float".into(), n),
            Some((_, 'f')) => ("ctypes.c_double".into(), n),
            Some((bytes, sign)) => {
                let unsigned = if sign == 'u' { "u" } else { "" };
                (format!("ctypes.c_{unsigned}int{}", bytes * 8), n)
            }
            None => {
                let known = header.is_opaque(of) || header.is_struct(of) || header.is_callback(of);
                assert!(known, "what is a {name}?");
                (name.to_string(), n)
            }
        },
    };
    let mut text = base;
    while pointers > 0 {
        text = format!("POINTER({text})");
        pointers -= 1;
    }
    text
}
