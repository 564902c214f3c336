//! C# 7.3 of Unity and Mono: constants, blittable structs, delegates, a SafeHandle for everything that has a `_free`, an
//! exception for every status, and the functions.

use super::{Field, Header, Item, Kind, Signature, Type, scalar};

const OPENING: &str = "// What softdimo.h declares. Generated from include/softdimo.h; do not edit.
//
// Structs are blittable and have their C names. Pointers are IntPtr in structs. Of functions, a pointer with a count beside
// it is an array, a text is NUL-terminated UTF-8 in bytes, null is NULL; what only one value is written to is `out`.

using System;
using System.Runtime.InteropServices;

namespace Softdimo
{
";

/// `bindings/csharp/Runtime/Native.cs`.
pub fn file(header: &Header) -> String {
    let mut text = String::from(OPENING);
    for item in header.items.iter().filter(|item| matches!(item.kind, Kind::Opaque)) {
        text += &handle(header, item);
    }
    text += &exceptions(header);
    text += "    /// <summary>The functions, structs and constants of softdimo.h.</summary>\n";
    text += "    public static class Native\n    {\n";
    text += "        /// <summary>libsoftdimo.so, where DllImport looks for it.</summary>\n";
    text += "        public const string Library = \"softdimo\";\n";
    for item in &header.items {
        let name = &item.name;
        let docs = summary(&item.docs, 8);
        text += &match &item.kind {
            Kind::Section => format!("\n        // {name}\n"),
            Kind::Opaque => String::new(),
            Kind::Constant(value) => {
                let of = match value {
                    -0x8000_0000..=0x7fff_ffff => "int",
                    0..=0xffff_ffff => "uint",
                    v if *v > i64::MAX as i128 => "ulong",
                    _ => "long",
                };
                format!("\n{docs}        public const {of} {name} = {value};\n")
            }
            Kind::Struct(fields) => {
                let fields: String = fields.iter().map(|field| members(header, field)).collect();
                format!(
                    "\n{docs}        [StructLayout(LayoutKind.Sequential)]\n        public struct {name}\n        \
                     {{\n{fields}        }}\n"
                )
            }
            Kind::Callback(of) => {
                let result = value_type(header, &of.result);
                let parameters: Vec<String> = of
                    .parameters
                    .iter()
                    .map(|(n, t)| format!("{} {}", value_type(header, t), name_of(n)))
                    .collect();
                format!(
                    "\n{docs}        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]\n        public delegate \
                     {result} {name}({});\n",
                    parameters.join(", ")
                )
            }
            Kind::Function(of) => externs(header, name, of, &docs),
        };
    }
    text + "    }\n}\n"
}

/// `softdimo_engine`: `EngineHandle`.
fn handle_name(name: &str) -> String {
    camel(name.strip_prefix("softdimo_").expect("a prefix")) + "Handle"
}

fn camel(name: &str) -> String {
    let words = name.split('_').map(|word| word[..1].to_uppercase() + &word[1..].to_lowercase());
    words.collect()
}

/// One for every status but OK, and which one that is.
fn exceptions(header: &Header) -> String {
    let (mut classes, mut cases) = (String::new(), String::new());
    for item in &header.items {
        let Some(status) = item.name.strip_prefix("SOFTDIMO_ERR_") else { continue };
        let (class, name) = (format!("Softdimo{}Exception", camel(status)), &item.name);
        classes += &summary(&item.docs, 4);
        classes += &format!(
            "    public sealed class {class} : SoftdimoException\n    {{\n        internal {class}(string message) : \
             base(Native.{name}, message) {{ }}\n    }}\n\n"
        );
        cases += &format!(
            "                case Native.{name}:\n                    return new {class}(message);\n"
        );
    }
    format!(
        "{classes}    public partial class SoftdimoException
    {{
        /// <summary>The exception of a status.</summary>
        internal static SoftdimoException Of(int status, string message)
        {{
            switch (status)
            {{
{cases}                default:
                    return new SoftdimoException(status, message);
            }}
        }}
    }}

"
    )
}

fn handle(header: &Header, item: &Item) -> String {
    let (name, free) = (handle_name(&item.name), format!("{}_free", item.name));
    assert!(header.items.iter().any(|item| item.name == free), "{free}");
    let docs = summary(&item.docs, 4);
    format!(
        "{docs}    public sealed class {name} : SafeHandle
    {{
        /// <summary>None; a function that makes one fills it in.</summary>
        public {name}() : base(IntPtr.Zero, true) {{ }}
        /// <summary>Whether there is none.</summary>
        public override bool IsInvalid {{ get {{ return handle == IntPtr.Zero; }} }}
        /// <summary>Called once this has been freed: what it used may go.</summary>
        internal Action Freed;
        /// <summary>{free}</summary>
        protected override bool ReleaseHandle()
        {{
            Native.{free}(handle);
            if (Freed != null)
            {{
                Freed();
            }}
            return true;
        }}
    }}

"
    )
}

fn summary(docs: &[String], indent: usize) -> String {
    let space = " ".repeat(indent);
    let escaped: Vec<String> = docs
        .iter()
        .map(|line| line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
        .collect();
    match &escaped[..] {
        [] => String::new(),
        [line] => format!("{space}/// <summary>{line}</summary>\n"),
        lines => {
            let lines: String = lines.iter().map(|line| format!("{space}/// {line}\n")).collect();
            format!("{space}/// <summary>\n{lines}{space}/// </summary>\n")
        }
    }
}

/// An array is a field for each of its elements: the struct stays blittable, and needs no unsafe code.
fn members(header: &Header, field: &Field) -> String {
    let (docs, of) = (summary(&field.docs, 12), value_type(header, &field.of));
    let names: Vec<String> = match field.count {
        0 => vec![name_of(&field.name)],
        n => (0..n).map(|i| format!("{}_{i}", field.name)).collect(),
    };
    format!("{docs}            public {of} {};\n", names.join(", "))
}

fn name_of(name: &str) -> String {
    let keywords =
        ["base", "checked", "event", "fixed", "in", "lock", "object", "out", "params", "ref", "string"];
    if keywords.contains(&name) { format!("@{name}") } else { name.into() }
}

/// By itself: pointers and functions as IntPtr.
fn value_type(header: &Header, of: &Type) -> String {
    match (scalar(&of.name), of.pointers) {
        (_, 1..) => "IntPtr".into(),
        (Some(scalar), 0) => scalar_name(scalar).into(),
        (None, 0) if of.name == "void" => "void".into(),
        (None, 0) if header.is_callback(of) => "IntPtr".into(),
        (None, 0) => {
            assert!(header.is_struct(of), "what is a {}?", of.name);
            of.name.clone()
        }
    }
}

fn scalar_name(scalar: (usize, char)) -> &'static str {
    match scalar {
        (4, 'f') => "float",
        (8, 'f') => "double",
        (1, 'i') => "sbyte",
        (1, _) => "byte",
        (2, 'i') => "short",
        (2, _) => "ushort",
        (4, 'i') => "int",
        (4, _) => "uint",
        (_, 'i') => "long",
        _ => "ulong",
    }
}

/// A struct that is only read may be NULL: that is a second declaration, with an IntPtr.
fn externs(header: &Header, name: &str, of: &Signature, docs: &str) -> String {
    let optional = |of: &Type| header.is_struct(of) && of.pointers == 1 && of.constant;
    let declare = |by_pointer: bool| {
        let parameters = of.parameters.iter().enumerate().map(|(i, (parameter, t))| {
            let counted = of
                .parameters
                .get(i + 1)
                .is_some_and(|(next, t)| t.pointers == 0 && (next.ends_with("count") || next == "capacity"));
            let shown = match by_pointer && optional(t) && !counted {
                true => "IntPtr".into(),
                false => parameter_type(header, name, t, counted),
            };
            format!("{shown} {}", name_of(parameter))
        });
        let parameters: Vec<String> = parameters.collect();
        let result = value_type(header, &of.result);
        format!(
            "\n{docs}        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]\n        public static \
             extern {result} {name}({});\n",
            parameters.join(", ")
        )
    };
    let (first, second) = (declare(false), declare(true));
    if first == second { first } else { first + &second }
}

fn parameter_type(header: &Header, function: &str, of: &Type, counted: bool) -> String {
    if of.pointers == 0 {
        return if header.is_callback(of) { of.name.clone() } else { value_type(header, of) };
    }
    if header.is_opaque(of) {
        return match of.pointers {
            1 if function.ends_with("_free") => "IntPtr".into(),
            1 => handle_name(&of.name),
            _ if counted || of.constant => "IntPtr[]".into(),
            _ => format!("out {}", handle_name(&of.name)),
        };
    }
    let scalar = scalar(&of.name).map(scalar_name);
    match (of.name.as_str(), of.pointers, counted) {
        ("void", 1, _) => "IntPtr".into(),
        ("char", 1, _) => "byte[]".into(),
        (_, 2, true) => "IntPtr[]".into(),
        (_, 2, false) => "out IntPtr".into(),
        (_, 1, true) if scalar.is_some() => format!("{}[]", scalar.unwrap()),
        (_, 1, false) if scalar.is_some() => {
            assert!(!of.constant, "{function}: how many {} are there?", of.name);
            format!("out {}", scalar.unwrap())
        }
        (name, 1, true) => format!("[In, Out] {name}[]"),
        (name, 1, false) => format!("ref {name}"),
        _ => panic!("{function}: {of:?}"),
    }
}
