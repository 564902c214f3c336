//! What `include/softdimo.h` declares, for other languages: the header, which is regular, is read, and written as
//! declarations of LuaJIT and C#. Sizes and places are not computed here: tests hold what these languages make of
//! the declarations against `tests/capi/abi.txt`, which a C compiler has filled in.

pub mod csharp;
pub mod lua;

/// The header.
pub struct Header {
    pub items: Vec<Item>,
}

/// A declaration with its comment, a line each, without `///`.
pub struct Item {
    pub docs: Vec<String>,
    pub name: String,
    pub kind: Kind,
}

pub enum Kind {
    /// The heading of what follows.
    Section,
    Constant(i128),
    /// A struct of which only pointers are handed out.
    Opaque,
    Struct(Vec<Field>),
    /// The type of a function that the host has.
    Callback(Signature),
    Function(Signature),
}

pub struct Field {
    pub docs: Vec<String>,
    pub name: String,
    pub of: Type,
    /// Elements of an array; 0 for what is none.
    pub count: usize,
}

pub struct Signature {
    pub result: Type,
    pub parameters: Vec<(String, Type)>,
}

/// `const NAME *…`.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    pub name: String,
    pub pointers: usize,
    /// What it points to is read only.
    pub constant: bool,
    /// As C has it, without the name of what has this type.
    pub code: String,
}

impl Header {
    pub fn parse(text: &str) -> Header {
        let (_, code) = text.split_once("#ifdef __cplusplus").expect("the header's declarations");
        let mut items = Vec::new();
        let mut docs = Vec::new();
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            if let Some(doc) = line.strip_prefix("///") {
                docs.push(doc.trim().to_string());
            } else if line == "/**" {
                let comment = lines.by_ref().take_while(|line| *line != " */");
                let heading = comment.filter_map(|line| line.strip_prefix(" * @defgroup ")).next();
                let title = heading.and_then(|h| h.split_once(' ')).expect("a section has a title").1;
                items.push(Item { docs: Vec::new(), name: title.into(), kind: Kind::Section });
                lines.by_ref().find(|line| *line == " */" || line.is_empty());
            } else if let Some(rest) = line.strip_prefix("#define ") {
                let (name, value) = rest.split_once(' ').expect("a constant has a value");
                let value = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
                items.push(Item {
                    docs: std::mem::take(&mut docs),
                    name: name.into(),
                    kind: Kind::Constant(value),
                });
            } else if let Some(name) =
                line.strip_prefix("typedef struct ").and_then(|rest| rest.strip_suffix(" {"))
            {
                let body: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with('}')).collect();
                let kind = Kind::Struct(fields(&body));
                items.push(Item { docs: std::mem::take(&mut docs), name: name.into(), kind });
            } else if !line.is_empty() && !line.starts_with(['#', '/', ' ', '}', 'e']) {
                let mut declaration = line.to_string();
                while !declaration.ends_with(';') {
                    declaration += lines.next().expect("the end of a declaration");
                }
                let (name, kind) = declared(declaration.trim_end_matches(';'));
                items.push(Item { docs: std::mem::take(&mut docs), name, kind });
            }
        }
        Header { items }
    }

    fn kind(&self, name: &str) -> Option<&Kind> {
        self.items.iter().find(|item| item.name == name).map(|item| &item.kind)
    }

    pub fn is_opaque(&self, of: &Type) -> bool {
        matches!(self.kind(&of.name), Some(Kind::Opaque))
    }

    pub fn is_struct(&self, of: &Type) -> bool {
        matches!(self.kind(&of.name), Some(Kind::Struct(_)))
    }

    pub fn is_callback(&self, of: &Type) -> bool {
        matches!(self.kind(&of.name), Some(Kind::Callback(_)))
    }
}

/// `typedef struct NAME NAME`, `typedef TYPE (*NAME)(…)`, `TYPE NAME(…)`.
fn declared(declaration: &str) -> (String, Kind) {
    if let Some(rest) = declaration.strip_prefix("typedef struct ") {
        return (rest.split(' ').next().unwrap().into(), Kind::Opaque);
    }
    let open = |text: &str| text.find('(').unwrap_or_else(|| panic!("what is declared here? {declaration}"));
    if let Some(rest) = declaration.strip_prefix("typedef ") {
        let (result, rest) = rest.split_at(open(rest));
        let (name, rest) =
            rest.strip_prefix("(*").and_then(|r| r.split_once(')')).expect("a callback's name");
        let of = Signature { result: abstract_type(result), parameters: parameters(rest) };
        return (name.into(), Kind::Callback(of));
    }
    let (head, rest) = declaration.split_at(open(declaration));
    let (name, result) = named_type(head);
    (name, Kind::Function(Signature { result, parameters: parameters(rest) }))
}

fn parameters(list: &str) -> Vec<(String, Type)> {
    let inside = list.trim().strip_prefix('(').and_then(|l| l.strip_suffix(')')).expect("parameters");
    let list = inside.split(',').map(str::trim).filter(|parameter| *parameter != "void");
    list.map(named_type).collect()
}

fn fields(body: &[&str]) -> Vec<Field> {
    let (mut found, mut docs) = (Vec::new(), Vec::new());
    for line in body.iter().map(|line| line.trim()) {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim().to_string());
            continue;
        }
        let line = line.strip_suffix(';').unwrap_or_else(|| panic!("a field stands on a line: {line}"));
        let (line, count) = match line.split_once('[') {
            Some((line, rest)) => (line, rest.trim_end_matches(']').parse().expect("a number of elements")),
            None => (line, 0),
        };
        let (name, of) = named_type(line);
        found.push(Field { docs: std::mem::take(&mut docs), name, of, count });
    }
    found
}

/// `const char *label`: the name and the type.
fn named_type(text: &str) -> (String, Type) {
    let text = text.trim();
    let at = text.rfind([' ', '*']).unwrap_or_else(|| panic!("a type and a name: {text}")) + 1;
    (text[at..].into(), abstract_type(&text[..at]))
}

fn abstract_type(text: &str) -> Type {
    let spaced = text.replace('*', " * ");
    let words: Vec<&str> = spaced.split_whitespace().filter(|word| *word != "struct").collect();
    let pointers = words.iter().filter(|word| **word == "*").count();
    let constant = words.first() == Some(&"const");
    let names: Vec<&str> = words.into_iter().filter(|word| !["*", "const"].contains(word)).collect();
    let [name] = names[..] else { panic!("a type of one word: {text}") };
    Type { name: name.into(), pointers, constant, code: text.trim().into() }
}

/// The size and the sign of a C scalar: `(8, 'u')` for `uint64_t`, 'f' for floats.
pub fn scalar(name: &str) -> Option<(usize, char)> {
    let rest = match name {
        "float" => return Some((4, 'f')),
        "double" => return Some((8, 'f')),
        _ => name.strip_suffix("_t")?,
    };
    let (sign, bits) = match rest.strip_prefix('u') {
        Some(rest) => ('u', rest.strip_prefix("int")?),
        None => ('i', rest.strip_prefix("int")?),
    };
    bits.parse::<usize>().ok().map(|bits| (bits / 8, sign))
}

/// The text between two lines, replaced. The lines stay.
pub fn between(text: &str, begin: &str, end: &str, inside: &str) -> String {
    let (before, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no line {begin:?}"));
    let (_, after) = rest.split_once(end).unwrap_or_else(|| panic!("no line {end:?}"));
    format!("{before}{begin}{inside}{end}{after}")
}
