//! README and `docs/` say what is: their programs compile without a warning, run and make pictures, their commands are
//! ones the program takes, their links lead somewhere, and their tables leave nothing out.

#![cfg(target_os = "linux")]

#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/pages.rs"]
mod pages;
#[path = "docs/programs.rs"]
mod programs;
#[path = "docs/tables.rs"]
mod tables;
