//! Encode any text with `sentencepiece`, and with changed tokenizers, and compare the ids with the `tokenizers` crate.

#![no_main]

#[path = "../sentencepiece.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bodies::any_text(bytes);
    if let Some((&kind, changes)) = bytes.split_first() {
        bodies::any_json(&bodies::changed_json(kind, changes));
    }
});
