//! `scripts/fuzz open 600`
#![no_main]

#[path = "../calls.rs"]
#[allow(dead_code)]
mod calls;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| calls::open(bytes));
