//! `ffi.cdef` of LuaJIT, and the constants as a table.

use super::{Header, Kind, Signature};

/// What stands between the marks of `bindings/love/softdimo.lua`.
pub fn declarations(header: &Header) -> String {
    let mut code = String::from("ffi.cdef [[\n");
    let mut constants = String::from("local constants = {\n");
    for item in &header.items {
        let name = &item.name;
        match &item.kind {
            Kind::Section => {}
            Kind::Constant(value) => {
                constants += &format!(
                    "    {} = {},\n",
                    name.strip_prefix("SOFTDIMO_").expect("a prefix"),
                    number(*value)
                )
            }
            Kind::Opaque => code += &format!("typedef struct {name} {name};\n"),
            Kind::Callback(of) => {
                code += &format!("typedef {};\n", function(of, &format!("(*{name})")));
            }
            Kind::Function(of) => code += &format!("{};\n", function(of, name)),
            Kind::Struct(fields) => {
                code += &format!("typedef struct {name} {{\n");
                for field in fields {
                    let count = if field.count > 0 { format!("[{}]", field.count) } else { String::new() };
                    code += &format!("    {}{count};\n", declarator(&field.of.code, &field.name));
                }
                code += &format!("}} {name};\n");
            }
        }
    }
    format!("{code}]]\n\n{constants}}}\n")
}

/// A number of Lua is a double: what it does not hold is one of the FFI's.
fn number(value: i128) -> String {
    let exact = value.unsigned_abs() <= 1 << 53;
    let suffix = if exact { "" } else { if value < 0 { "LL" } else { "ULL" } };
    format!("{value}{suffix}")
}

fn function(of: &Signature, name: &str) -> String {
    let parameters: Vec<String> = of.parameters.iter().map(|(name, of)| declarator(&of.code, name)).collect();
    let parameters = if parameters.is_empty() { "void".into() } else { parameters.join(", ") };
    format!("{}({parameters})", declarator(&of.result.code, name))
}

fn declarator(code: &str, name: &str) -> String {
    let space = if code.ends_with('*') { "" } else { " " };
    format!("{code}{space}{name}")
}
