//! The stable tier of the Rust interface is what `docs/stable-api.txt` records; `BLESS=1 cargo test --test integration
//! stable_api` rewrites it.

use std::collections::{BTreeMap, BTreeSet};

use quote::ToTokens;
use support::root;
use syn::{Fields, ImplItem, Item, UseTree, Visibility};

use super::sources;

/// Names that a file hands on by `pub use`.
fn handed_on(items: &[Item]) -> BTreeSet<String> {
    fn leaves(tree: &UseTree, found: &mut BTreeSet<String>) {
        match tree {
            UseTree::Path(path) => leaves(&path.tree, found),
            UseTree::Name(name) => drop(found.insert(name.ident.to_string())),
            UseTree::Rename(name) => drop(found.insert(name.rename.to_string())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, found)),
            UseTree::Glob(_) => panic!("a glob hands on who knows what"),
        }
    }
    let mut found = BTreeSet::new();
    for item in items {
        if let Item::Use(item) = item
            && is_public(&item.vis)
        {
            leaves(&item.tree, &mut found);
        }
    }
    found
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// Tokens as text, spaced evenly.
fn text(tokens: impl ToTokens) -> String {
    let text = tokens.to_token_stream().to_string();
    let text = text.replace(" :: ", "::").replace(" < ", "<").replace(" > ", "> ").replace(" >", ">");
    text.replace("& ", "&")
        .replace(" ,", ",")
        .replace(" (", "(")
        .replace("( ", "(")
        .replace(" )", ")")
        .replace(" :", ":")
}

/// What a public item shows: one line for itself and one for each field or variant.
fn lines(item: &Item) -> Option<(String, Vec<String>)> {
    let fields = |fields: &Fields| -> Vec<String> {
        let public = fields.iter().filter(|f| is_public(&f.vis));
        let named = public.filter_map(|f| Some(format!(".{}: {}", f.ident.as_ref()?, text(&f.ty))));
        named.collect()
    };
    match item {
        Item::Struct(s) if is_public(&s.vis) => {
            let name = s.ident.to_string();
            let own = fields(&s.fields).into_iter().map(|field| format!("{name}{field}"));
            Some((
                name.clone(),
                std::iter::once(format!("struct {name}{}", text(&s.generics))).chain(own).collect(),
            ))
        }
        Item::Enum(e) if is_public(&e.vis) => {
            let name = e.ident.to_string();
            let own = e.variants.iter().map(|v| format!("{name}::{}{}", v.ident, text(&v.fields)));
            Some((name.clone(), std::iter::once(format!("enum {name}")).chain(own).collect()))
        }
        Item::Fn(f) if is_public(&f.vis) => Some((f.sig.ident.to_string(), vec![text(&f.sig)])),
        Item::Const(c) if is_public(&c.vis) => {
            Some((c.ident.to_string(), vec![format!("const {}: {}", c.ident, text(&c.ty))]))
        }
        Item::Type(t) if is_public(&t.vis) => {
            Some((t.ident.to_string(), vec![format!("type {} = {}", t.ident, text(&t.ty))]))
        }
        _ => None,
    }
}

#[test]
fn the_stable_tier_is_what_is_recorded() {
    let parsed: Vec<_> = sources().into_iter().map(|s| (s.path, syn::parse_file(&s.all).unwrap())).collect();
    let file = |name: &str| &parsed.iter().find(|(path, _)| path.as_os_str() == name).unwrap().1;
    let mut tiers: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    tiers.insert("softdimo", handed_on(&file("lib.rs").items));
    for (module, path) in [("softdimo::convert", "convert/mod.rs"), ("softdimo::image", "image/mod.rs")] {
        let own = file(path).items.iter().filter_map(lines).map(|(name, _)| name);
        tiers.insert(module, handed_on(&file(path).items).into_iter().chain(own).collect());
    }
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, file) in &parsed {
        for item in &file.items {
            if let Some((name, lines)) = lines(item) {
                // A function of the same name elsewhere is another one: the shortest path is nearest the root.
                let known = declared.entry(name).or_default();
                if known.is_empty() || path.components().count() <= 2 {
                    *known = lines;
                }
            }
        }
    }
    for (_, file) in &parsed {
        for item in &file.items {
            let Item::Impl(block) = item else { continue };
            if block.trait_.is_some() {
                continue;
            }
            let name = text(&block.self_ty).split('<').next().unwrap_or_default().to_string();
            for item in &block.items {
                let line = match item {
                    ImplItem::Fn(f) if is_public(&f.vis) => format!("{name}::{}", text(&f.sig)),
                    ImplItem::Const(c) if is_public(&c.vis) => {
                        format!("{name}::{}: {}", c.ident, text(&c.ty))
                    }
                    _ => continue,
                };
                if let Some(lines) = declared.get_mut(&name) {
                    lines.push(line);
                }
            }
        }
    }
    let mut record =
        String::from("The stable tier of the Rust interface, by module; made from the sources.\n");
    for (module, names) in &tiers {
        record += &format!("\n[{module}]\n");
        for name in names {
            let lines = declared.get(name).unwrap_or_else(|| panic!("{module}::{name} is declared nowhere"));
            lines.iter().for_each(|line| record += &format!("{line}\n"));
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
