//! README and `docs/` say what is: their programs compile without a warning, run and make pictures, their commands are
//! ones the program takes, their links lead somewhere, and their tables leave nothing out.

#![cfg(target_os = "linux")]

mod commands;
mod pages;
mod programs;
mod tables;
