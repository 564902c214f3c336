//! The stable tier of the Rust interface is what `docs/stable-api.txt` records; `BLESS=1 cargo test --test integration
//! stable_api` rewrites it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use quote::{ToTokens, quote};
use support::root;
use syn::{
    Attribute, Fields, FnArg, Generics, ImplItem, Item, Pat, ReturnType, Signature, Type, UseTree, Visibility,
};

use super::sources;

/// The modules whose public names are stable, as users and as [`Library`] call them.
const STABLE: [(&str, &str); 3] =
    [("softdimo", ""), ("softdimo::convert", "convert"), ("softdimo::image", "image")];

/// A line of the record: `Engine::` and `fn memory(&self) -> Result<MemoryUse>`.
struct Line {
    owner: String,
    signature: String,
    /// A function that can fail does not say how.
    silent: bool,
}

fn line(owner: &str, signature: impl ToTokens) -> Line {
    Line { owner: owner.to_string(), signature: text(signature), silent: false }
}

/// The line of a function.
fn function(owner: &str, attributes: &[Attribute], of: &Signature) -> Line {
    let fails = matches!(&of.output, ReturnType::Type(_, ty) if is_named(ty, "Result"));
    let documented = attributes.iter().any(|a| a.path().is_ident("doc") && text(a).contains("# Errors"));
    Line { silent: fails && !documented, ..line(owner, signature(of)) }
}

/// The parsed files of the library by their module: `engine::job`, and nothing for the root.
pub struct Library(BTreeMap<String, syn::File>);

impl Library {
    fn new<'a>(files: impl IntoIterator<Item = (&'a Path, &'a str)>) -> Library {
        let files = files.into_iter().map(|(path, text)| {
            let mut file = syn::parse_file(text).unwrap();
            let tables: Vec<Item> = file.items.iter().flat_map(tabled).collect();
            file.items.extend(tables);
            (module(path), file)
        });
        Library(files.collect())
    }

    fn items(&self) -> impl Iterator<Item = &Item> {
        self.0.values().flat_map(|file| &file.items)
    }

    /// Every type and trait, of whatever tier.
    fn types(&self) -> BTreeSet<String> {
        let name = |item: &Item| match item {
            Item::Struct(s) => Some(s.ident.to_string()),
            Item::Enum(e) => Some(e.ident.to_string()),
            Item::Type(t) => Some(t.ident.to_string()),
            Item::Trait(t) => Some(t.ident.to_string()),
            _ => None,
        };
        self.items().filter_map(name).collect()
    }

    /// The names that a module shows: its own, and those that it hands on.
    fn names(&self, module: &str) -> BTreeSet<String> {
        let items = &self.0[module].items;
        let own = items.iter().filter_map(declared).map(|(name, _)| name);
        own.chain(imports(items, is_public).into_keys()).collect()
    }

    /// The item that a module shows under a name.
    fn item(&self, module: &str, name: &str) -> Vec<Line> {
        let items = &self.0[module].items;
        if let Some((_, lines)) = items.iter().filter_map(declared).find(|(own, _)| own == name) {
            return lines;
        }
        let path = imports(items, is_public).remove(name);
        let path = path.unwrap_or_else(|| panic!("{module}::{name} is declared nowhere"));
        let (from, name) = path.rsplit_once("::").unwrap();
        match (from.strip_prefix("crate::"), module) {
            (Some(from), _) => self.item(from, name),
            (None, "") => self.item(from, name),
            (None, _) => self.item(&format!("{module}::{}", from.trim_start_matches("self::")), name),
        }
    }

    /// Traits, methods and constants of a type.
    fn implemented(&self, name: &str) -> Vec<Line> {
        let (mut traits, mut lines, own) = (BTreeSet::new(), Vec::new(), self.types());
        for item in self.items() {
            match item {
                Item::Struct(s) if s.ident == name => traits.extend(derived(&s.attrs)),
                Item::Enum(e) if e.ident == name => traits.extend(derived(&e.attrs)),
                Item::Impl(block) if !is_hidden(&block.attrs) && is_named(&block.self_ty, name) => {
                    match &block.trait_ {
                        None => lines.extend(block.items.iter().filter_map(|item| method(name, item))),
                        Some((_, path, _)) => {
                            // A trait of this crate is for its own use.
                            let last = path.segments.last().unwrap();
                            traits.extend((!own.contains(&last.ident.to_string())).then(|| text(last)));
                        }
                    }
                }
                _ => {}
            }
        }
        let traits: Vec<String> = traits.into_iter().collect();
        let traits = Line { owner: format!("{name}: "), signature: traits.join(" + "), silent: false };
        std::iter::once(traits).filter(|traits| !traits.signature.is_empty()).chain(lines).collect()
    }

    /// What a stable module shows.
    fn lines(&self, module: &str) -> Vec<Line> {
        let names = self.names(module).into_iter();
        names.flat_map(|name| self.item(module, &name).into_iter().chain(self.implemented(&name))).collect()
    }

    /// Hidden methods and variants of stable types, where none that is shown has the name.
    pub fn hidden_members(&self) -> BTreeSet<String> {
        let stable = self.stable();
        let (mut hidden, mut shown) = (BTreeSet::new(), BTreeSet::new());
        let mut add = |name: &syn::Ident, attributes: &[Attribute]| {
            if is_hidden(attributes) { &mut hidden } else { &mut shown }.insert(name.to_string());
        };
        for item in self.items() {
            match item {
                Item::Impl(block) if stable.iter().any(|name| is_named(&block.self_ty, name)) => {
                    for item in &block.items {
                        if let ImplItem::Fn(f) = item
                            && is_public(&f.vis)
                        {
                            add(&f.sig.ident, &f.attrs);
                        }
                    }
                }
                Item::Enum(e) if stable.contains(&e.ident.to_string()) => {
                    e.variants.iter().for_each(|variant| add(&variant.ident, &variant.attrs));
                }
                _ => {}
            }
        }
        hidden.difference(&shown).cloned().collect()
    }

    /// Whether what stands behind `softdimo::` is stable: a name of a stable module.
    pub fn shows(&self, path: &str) -> bool {
        let (first, rest) = path.split_once("::").unwrap_or((path, ""));
        let next = rest.split("::").next().unwrap_or_default();
        let is_module = STABLE.iter().any(|(_, module)| !module.is_empty() && *module == first);
        match is_module {
            true => next.is_empty() || self.names(first).contains(next),
            false => self.names("").contains(first),
        }
    }

    /// The names of the stable tier.
    fn stable(&self) -> BTreeSet<String> {
        STABLE.iter().flat_map(|(_, module)| self.names(module)).collect()
    }

    /// Stable signatures that name a type of another tier.
    fn leaks(&self) -> Vec<String> {
        let hidden: BTreeSet<String> = self.types().difference(&self.stable()).cloned().collect();
        let lines = STABLE.iter().flat_map(|(_, module)| self.lines(module));
        let leaks = lines.filter(|line| words(&line.signature).any(|word| hidden.contains(word)));
        leaks.map(|line| format!("{}{}", line.owner, line.signature)).collect()
    }
}

/// The items that a table is made of: the body of a macro that is called by a name, where it is Rust.
fn tabled(item: &Item) -> Vec<Item> {
    match item {
        Item::Macro(table) if table.ident.is_none() => {
            table.mac.parse_body::<syn::File>().map_or(Vec::new(), |body| body.items)
        }
        _ => Vec::new(),
    }
}

/// `engine/job.rs` is `engine::job`, `engine/mod.rs` is `engine`, `lib.rs` is the root.
fn module(path: &Path) -> String {
    let path = path.with_extension("").to_str().unwrap().replace('/', "::");
    if path == "lib" { String::new() } else { path.trim_end_matches("::mod").to_string() }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The names that `use` brings, and where from.
pub fn imports(items: &[Item], of: impl Fn(&Visibility) -> bool) -> BTreeMap<String, String> {
    fn leaves(path: &str, tree: &UseTree, found: &mut BTreeMap<String, String>) {
        let below = |name: &syn::Ident| format!("{path}::{name}").trim_start_matches("::").to_string();
        match tree {
            UseTree::Path(tree) => leaves(&below(&tree.ident), &tree.tree, found),
            UseTree::Name(name) => drop(found.insert(name.ident.to_string(), below(&name.ident))),
            UseTree::Rename(name) => drop(found.insert(name.rename.to_string(), below(&name.ident))),
            UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(path, tree, found)),
            UseTree::Glob(_) => drop(found.insert("*".to_string(), path.to_string())),
        }
    }
    let mut found = BTreeMap::new();
    for item in items {
        if let Item::Use(item) = item
            && of(&item.vis)
        {
            leaves("", &item.tree, &mut found);
        }
    }
    found
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| ["#[doc(hidden)]", "#[cfg(test)]"].contains(&text(a).as_str()))
}

fn open_ended(attributes: &[Attribute]) -> Option<&Attribute> {
    attributes.iter().find(|a| a.path().is_ident("non_exhaustive"))
}

/// Whether a type is `name` or `name<..>`.
fn is_named(ty: &Type, name: &str) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == name))
}

/// The last words of what is derived: `Error` of `thiserror::Error`.
fn derived(attributes: &[Attribute]) -> Vec<String> {
    let mut traits = Vec::new();
    for attribute in attributes.iter().filter(|a| a.path().is_ident("derive")) {
        let add = |meta: syn::meta::ParseNestedMeta| {
            traits.push(text(meta.path.segments.last()));
            Ok(())
        };
        attribute.parse_nested_meta(add).unwrap();
    }
    traits
}

/// Tokens as text, spaced evenly.
fn text(tokens: impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (spaced, even) in [
        (" :: ", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" > ", "> "),
        (" >", ">"),
        ("& ", "&"),
        (" ,", ","),
        (",)", ")"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        (" ;", ";"),
        (" :", ":"),
        ("# [", "#["),
    ] {
        text = text.replace(spaced, even);
    }
    text
}

/// The name of a public item and what it shows: one line for itself and one for each field or variant.
fn declared(item: &Item) -> Option<(String, Vec<Line>)> {
    let fields = |owner: &str, fields: &Fields| -> Vec<Line> {
        let public = fields.iter().enumerate().filter(|(_, f)| is_public(&f.vis) && !is_hidden(&f.attrs));
        let named = public.map(|(i, f)| {
            let name = f.ident.as_ref().map_or(i.to_string(), |name| name.to_string());
            line(&format!("{owner}.{name}: "), &f.ty)
        });
        named.collect()
    };
    let (vis, attributes, name, lines) = match item {
        Item::Struct(s) => {
            let (name, generics) = (&s.ident, &s.generics);
            let open = open_ended(&s.attrs);
            let own = std::iter::once(line("", quote!(#open struct #name #generics)));
            (&s.vis, &s.attrs, name, own.chain(fields(&name.to_string(), &s.fields)).collect())
        }
        Item::Enum(e) => {
            let (name, generics) = (&e.ident, &e.generics);
            let variants = e.variants.iter().filter(|v| !is_hidden(&v.attrs));
            let variants = variants.map(|v| line(&format!("{name}::{}", v.ident), &v.fields));
            let open = open_ended(&e.attrs);
            let own = std::iter::once(line("", quote!(#open enum #name #generics)));
            (&e.vis, &e.attrs, name, own.chain(variants).collect())
        }
        Item::Fn(f) => (&f.vis, &f.attrs, &f.sig.ident, vec![function("", &f.attrs, &f.sig)]),
        Item::Const(c) => {
            let (name, ty) = (&c.ident, &c.ty);
            (&c.vis, &c.attrs, name, vec![line("", quote!(const #name: #ty))])
        }
        Item::Type(t) => {
            let (name, Generics { params, .. }, ty) = (&t.ident, &t.generics, &t.ty);
            (&t.vis, &t.attrs, name, vec![line("", quote!(type #name<#params> = #ty))])
        }
        _ => return None,
    };
    (is_public(vis) && !is_hidden(attributes)).then(|| (name.to_string(), lines))
}

/// As a caller sees it, who does not care which arguments the body changes.
fn signature(of: &Signature) -> Signature {
    let mut signature = of.clone();
    for argument in &mut signature.inputs {
        if let FnArg::Typed(argument) = argument
            && let Pat::Ident(name) = argument.pat.as_mut()
        {
            name.mutability = None;
        }
    }
    signature
}

/// The line of a public method or constant.
fn method(of: &str, item: &ImplItem) -> Option<Line> {
    let (vis, attributes, line) = match item {
        ImplItem::Fn(f) => (&f.vis, &f.attrs, function(&format!("{of}::"), &f.attrs, &f.sig)),
        ImplItem::Const(c) => (&c.vis, &c.attrs, line(&format!("{of}::{}: ", c.ident), &c.ty)),
        _ => return None,
    };
    (is_public(vis) && !is_hidden(attributes)).then_some(line)
}

pub fn library() -> Library {
    let sources = sources();
    Library::new(sources.iter().map(|s| (s.path.as_path(), s.all.as_str())))
}

#[test]
fn the_stable_tier_is_what_is_recorded() {
    let library = library();
    let mut record =
        String::from("The stable tier of the Rust interface, by module; made from the sources.\n");
    for (tier, module) in STABLE {
        record += &format!("\n[{tier}]\n");
        for line in library.lines(module) {
            record += &format!("{}{}\n", line.owner, line.signature);
        }
    }
    let path = root().join("docs/stable-api.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &record).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        record == recorded,
        "docs/stable-api.txt is not what src says: a change of the stable tier is meant? Then run \
         BLESS=1 cargo test --test integration stable_api, and tell it in the CHANGELOG"
    );
}

#[test]
fn stable_signatures_name_stable_types() {
    let leaks = library().leaks();
    assert!(leaks.is_empty(), "these name types that are not recorded: {leaks:#?}");
}

#[test]
fn what_can_fail_says_how() {
    let library = library();
    let silent = STABLE.iter().flat_map(|(_, module)| library.lines(module)).filter(|line| line.silent);
    let silent: Vec<String> = silent.map(|line| line.owner + &line.signature).collect();
    assert!(silent.is_empty(), "without a heading `# Errors`: {silent:#?}");
}

#[test]
fn what_is_hidden_is_not_recorded_and_what_leaks_is_named() {
    let library = Library::new(
        [
            ("lib.rs", "mod a; pub mod convert; pub mod image; pub use a::{Row, Shown, inner::other as name};"),
            ("convert.rs", ""),
            ("image/mod.rs", "pub fn name() {}"),
            ("a/inner.rs", "pub fn other(by: &Shown) -> std::fmt::Result { todo!() } fn name() {}"),
            (
                "a/mod.rs",
                "#[derive(Clone, thiserror::Error)] #[non_exhaustive] pub struct Shown { pub of: Vec<Inner>, own: Inner }
                 pub struct Inner;
                 trait Own {}
                 impl Own for Shown {}
                 impl<const N: usize> From<[u8; N]> for Shown {}
                 impl Shown {
                     pub fn inner(&self, mut by: u8) -> &Inner { &self.own }
                     #[doc(hidden)] pub fn secret(&self) -> Inner { Inner }
                     fn own(&self) -> Inner { Inner }
                     pub fn len(&self) -> usize { 0 }
                 }
                 table! { pub enum Row { #[default] One = one::One } }",
            ),
        ]
        .map(|(path, text)| (Path::new(path), text)),
    );
    let lines = library.lines("").into_iter().map(|line| line.owner + &line.signature);
    let expected = [
        "enum Row",
        "Row::One",
        "#[non_exhaustive] struct Shown",
        "Shown.of: Vec<Inner>",
        "Shown: Clone + Error + From<[u8; N]>",
        "Shown::fn inner(&self, by: u8) -> &Inner",
        "Shown::fn len(&self) -> usize",
        "fn other(by: &Shown) -> std::fmt::Result",
    ];
    assert_eq!(lines.collect::<Vec<_>>(), expected);
    assert_eq!(library.leaks(), [expected[3], expected[5]]);
}
