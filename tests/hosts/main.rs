//! What is made for other languages and engines, in these: the generated declarations against the C compiler's sizes and
//! places, and the folders of `bindings/` in LuaJIT, Python and the rest, as their READMEs say.
//! `cargo test -p libsoftdimo --test hosts -- --nocapture` shows what they print.

#![cfg(target_os = "linux")]

mod generated;
#[path = "../../bindings/c/languages/mod.rs"]
mod languages;
