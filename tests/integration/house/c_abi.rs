//! The C ABI takes of the library what is stable, and what `src/lib.rs` says it takes beside that.

use std::collections::BTreeSet;

use support::root;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Expr, ExprMethodCall, Item, ItemUse, Macro, Path, Token};

use super::stable_api::{Library, imports, library};
use super::{files, read};

/// What a file takes of the hidden tier.
struct Taken<'a> {
    library: &'a Library,
    members: &'a BTreeSet<String>,
    hidden: BTreeSet<String>,
}

impl Taken<'_> {
    /// A path from the root of a crate.
    fn path(&mut self, path: &str) {
        assert!(path != "softdimo" && path != "::softdimo", "all of softdimo under another name");
        if let Some(path) = path.trim_start_matches("::").strip_prefix("softdimo::")
            && !self.library.shows(path)
        {
            self.hidden.insert(path.to_string());
        }
    }

    fn member(&mut self, name: String) {
        if self.members.contains(&name) {
            self.hidden.insert(name);
        }
    }
}

impl<'ast> Visit<'ast> for Taken<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for path in imports(&[Item::Use(item.clone())], |_| true).values() {
            self.path(path);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(&names.join("::"));
        if names.len() > 1 {
            self.member(names[names.len() - 1].clone());
        }
        visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.member(call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }

    /// Macros are called with expressions.
    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        let arguments = call.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated);
        match arguments {
            Ok(arguments) => arguments.iter().for_each(|argument| self.visit_expr(argument)),
            Err(_) => {
                let body = call.tokens.to_string();
                assert!(!body.contains("softdimo ::"), "a macro's body is not read: {body}");
            }
        }
    }
}

fn taken(library: &Library, members: &BTreeSet<String>, text: &str) -> BTreeSet<String> {
    let mut taken = Taken { library, members, hidden: BTreeSet::new() };
    taken.visit_file(&syn::parse_file(text).unwrap());
    taken.hidden
}

#[test]
fn the_c_abi_is_built_from_the_stable_tier() {
    let (library, tiers) = (library(), read(&root().join("src/lib.rs")));
    let members = library.hidden_members();
    let files = files(&root().join("bindings/c/src"), &["rs"]);
    let hidden: BTreeSet<String> =
        files.iter().flat_map(|file| taken(&library, &members, &read(file))).collect();
    assert!(hidden.contains("runtime::check_process") && hidden.contains("from_mapping"), "{hidden:?}");
    for name in hidden {
        assert!(tiers.contains(&format!("`{name}`")), "src/lib.rs does not say what {name} is for");
    }
}

#[test]
fn hidden_paths_and_members_are_seen_wherever_they_stand() {
    let library = library();
    let members = library.hidden_members();
    let of = |body: &str| {
        let found = taken(&library, &members, &format!("fn f() {{ {body} }}"));
        found.into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of("let e = softdimo::Engine::open(p)?; softdimo::image::read_png(p)"), "");
    assert_eq!(of("use softdimo::{Engine, image::RgbaImage, graph::Graph};"), "graph::Graph");
    assert_eq!(of("call(softdimo::rng::Philox::new(1))"), "rng::Philox::new");
    assert_eq!(of("let x: Vec<softdimo::weights::Weights>;"), "weights::Weights");
    assert_eq!(of("format!(\"{}\", softdimo::rng::KEY)"), "rng::KEY");
    assert_eq!(of("engine.model().config()"), "config model");
    assert_eq!(of("format!(\"{}\", engine.model())"), "model");
    assert_eq!(of("Engine::from_mapping(m)"), "from_mapping");
    assert_eq!(of("matches!(r, Reward::Callback(_)) || reward == Reward::Callback(f)"), "Callback");
}
