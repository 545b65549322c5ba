//! Read any bytes as a `tokenizer.json`, and apply them as changes to a valid one.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bodies::tokenizer(bytes);
    if bytes.len() >= bodies::CHANGE_LEN {
        bodies::tokenizer(&bodies::changed_tokenizer(bytes));
    }
});
