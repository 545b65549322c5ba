//! Sources to shards on all threads: read, cut, encode, write.
//!
//! Every thread does the same: take the next block from the reader, encode it, hand it to the sink, which writes blocks in
//! their order. So the bytes do not depend on the number of threads, no thread waits for a slower kind of work, and no more
//! than a block per thread and what waits for its turn is in memory. `run` returns after a number of bytes, for progress and
//! Ctrl-C.

mod blocks;
mod cutter;
mod pipeline;
mod reader;
mod sink;
#[cfg(test)]
mod tests;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::ThreadPool;

use crate::encode::{Encoder, threads};
use crate::error::Result;
use crate::shard::{MAX_U16_VOCAB, ShardInfo};
pub use cutter::Rule;
use pipeline::Pipeline;
use reader::Input;
pub use sink::Counts;

/// Shards of an earlier call as (name, SHA-256), of the training and of the validation split.
pub type Kept = [Vec<(String, String)>; 2];

/// What a preparation is made of.
pub struct Settings<'a> {
    /// Where the shards go.
    pub directory: &'a Path,
    /// Ends every document.
    pub eos_id: u32,
    /// Ids of a full shard.
    pub shard_tokens: u64,
    /// What a document of a text file is.
    pub rule: Rule,
    /// Share of documents that is held out.
    pub fraction: f64,
    /// What an earlier call has left.
    pub kept: Kept,
    /// 0 means all cores.
    pub num_threads: usize,
}

/// One preparation, with ids of two bytes or of four.
pub struct Ingest {
    width: Width,
    encoder: Arc<Encoder>,
    pool: ThreadPool,
}

enum Width {
    Two(Pipeline<u16>),
    Four(Pipeline<u32>),
}

macro_rules! each {
    ($self:expr, $pipeline:ident => $result:expr) => {
        match &$self.width {
            Width::Two($pipeline) => $result,
            Width::Four($pipeline) => $result,
        }
    };
}

impl Ingest {
    /// Open both splits, after what is kept of an earlier call.
    ///
    /// # Errors
    /// When the end-of-text id is outside the vocabulary or a shard may hold nothing.
    pub fn new(settings: &Settings<'_>, encoder: Arc<Encoder>) -> Result<Self> {
        Ok(Self {
            width: if encoder.vocab_size() <= MAX_U16_VOCAB {
                Width::Two(Pipeline::new(settings, &encoder)?)
            } else {
                Width::Four(Pipeline::new(settings, &encoder)?)
            },
            encoder,
            pool: threads(settings.num_threads)?,
        })
    }

    /// Read these text files next.
    pub fn add_paths(&self, paths: Vec<PathBuf>) {
        self.add(paths.into_iter().map(Input::Path));
    }

    /// Take these documents next.
    pub fn add_documents(&self, documents: Vec<String>) {
        self.add([Input::Documents(documents.into_iter())]);
    }

    /// Take these pieces next of a text that is cut as one file, and goes on until `end_text`.
    pub fn add_text(&self, pieces: Vec<String>) {
        self.add(pieces.into_iter().map(Input::Text));
    }

    /// The text that came in pieces is whole.
    pub fn end_text(&self) {
        self.add([Input::EndOfText]);
    }

    /// Everything added from now on is held out.
    pub fn hold_out_all(&self) {
        self.add([Input::HoldOutAll]);
    }

    fn add(&self, inputs: impl IntoIterator<Item = Input>) {
        each!(self, pipeline => pipeline.add(inputs));
    }

    /// Work on about `num_bytes` of what was added; false when it is used up.
    ///
    /// # Errors
    /// When text cannot be read or tokens, or a shard not be written. Nothing goes on after that.
    pub fn run(&self, num_bytes: u64) -> Result<bool> {
        each!(self, pipeline => pipeline.run(&self.encoder, &self.pool, num_bytes))
    }

    /// Counts of both splits, of the blocks that are written.
    pub fn counts(&self) -> [Counts; 2] {
        each!(self, pipeline => pipeline.sink().counts())
    }

    /// The shards of both splits that are whole on disk so far.
    pub fn finished(&self) -> [Vec<ShardInfo>; 2] {
        each!(self, pipeline => pipeline.sink().finished())
    }

    /// Encode what is left and close the last shards; the shards of both splits in order.
    ///
    /// # Errors
    /// As `run`.
    pub fn finish(&self) -> Result<[Vec<ShardInfo>; 2]> {
        while self.run(u64::MAX)? {}
        each!(self, pipeline => pipeline.finish(&self.encoder))
    }
}
