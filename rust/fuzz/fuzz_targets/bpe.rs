//! Encode any text with `bpe` and compare the ids with the `tokenizers` crate.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::bpe(bytes));
