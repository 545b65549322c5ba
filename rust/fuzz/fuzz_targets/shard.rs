//! Read any bytes as a shard file, as they are and with a correct checksum, which no fuzzer guesses.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bodies::shard(bytes);
    let mut bytes = bytes.to_vec();
    if let Some(header) = bytes.first_chunk_mut() {
        bodies::sign(header);
        bodies::shard(&bytes);
    }
});
