//! The compiled half of tttkit: token shards from documents, window sampling, chunk statistics and bootstrap.
//!
//! Everything outside `bindings` is plain Rust and is tested with `cargo test`. Python sees `bindings` as
//! `tttkit._rust`.

#[cfg(test)]
extern crate self as _rust;

mod beside;
mod bindings;
#[cfg(test)]
#[path = "../fuzz/bodies.rs"]
mod bodies;
pub mod bootstrap;
pub mod bpe;
pub mod chunk;
pub mod contiguous;
pub mod encode;
pub mod error;
mod fallback;
pub mod ingest;
mod library;
mod median;
pub mod overlap;
pub mod pack;
pub mod sampler;
pub mod sentencepiece;
#[cfg(test)]
#[path = "../fuzz/sentencepiece.rs"]
mod sentencepiece_bodies;
pub mod shard;
pub mod split;
mod sums;
pub mod vocabulary;
pub mod window;
