//! Turn sources into shards on all threads: read, cut, encode, write.
//!
//! Every thread does the same: it takes the next block from the reader, encodes it, and hands it to the sink, which
//! writes the blocks in order. So the bytes do not depend on the number of threads, no thread waits for a slower kind
//! of work, and memory holds one block per thread and the blocks that wait for their turn. `run` returns after a number
//! of bytes, so that the caller can report progress and handle Ctrl-C.

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
pub(crate) use blocks::{BLOCK_BYTES, Block, Builder, Cuts, Target};
pub use cutter::Rule;
use pipeline::Pipeline;
pub(crate) use reader::{Input, Reader};
pub use sink::Counts;

/// Finished shards of an earlier call as (name, SHA-256), for the train and the validation split.
pub type Kept = [Vec<(String, String)>; 2];

/// The settings of a preparation.
pub struct Settings<'a> {
    /// Directory of the shards.
    pub directory: &'a Path,
    /// Id of the end-of-text token, which ends every document.
    pub eos_id: u32,
    /// Tokens of a full shard.
    pub shard_tokens: u64,
    /// The rule that cuts text files into documents.
    pub rule: Rule,
    /// Share of documents that go to the validation split.
    pub fraction: f64,
    /// Number of documents before the first one, if another process prepares them.
    pub first_document: u64,
    /// Count documents, bytes and words only: nothing is encoded or written.
    pub count_only: bool,
    /// Finished shards of an earlier call.
    pub kept: Kept,
    /// Threads; 0 means all cores.
    pub num_threads: usize,
}

/// One preparation, with ids of two or four bytes.
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
    /// Open both splits, after the shards that are kept from an earlier call.
    ///
    /// # Errors
    /// When the end-of-text id is outside the vocabulary or `shard_tokens` is 0.
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

    /// Take these pieces next. They are part of one text, which is cut like a file and continues until `end_text`.
    pub fn add_text(&self, pieces: Vec<String>) {
        self.add(pieces.into_iter().map(Input::Text));
    }

    /// End the text that came in pieces.
    pub fn end_text(&self) {
        self.add([Input::EndOfText]);
    }

    /// Take these pieces next. None ends a document; a document is taken as it is.
    pub fn add_pieces(&self, pieces: Vec<Option<String>>) {
        self.add(pieces.into_iter().map(Input::of_piece));
    }

    /// Put everything added from now on into the validation split.
    pub fn hold_out_all(&self) {
        self.add([Input::HoldOutAll]);
    }

    fn add(&self, inputs: impl IntoIterator<Item = Input>) {
        each!(self, pipeline => pipeline.add(inputs));
    }

    /// Process about `num_bytes` of the added inputs. Returns false when all of them are read.
    ///
    /// # Errors
    /// When text cannot be read or encoded, or a shard cannot be written. The preparation cannot continue after that.
    pub fn run(&self, num_bytes: u64) -> Result<bool> {
        each!(self, pipeline => pipeline.run(&self.encoder, &self.pool, num_bytes))
    }

    /// Counts of both splits in the blocks written so far.
    pub fn counts(&self) -> [Counts; 2] {
        each!(self, pipeline => pipeline.sink().counts())
    }

    /// The shards of both splits that are finished on disk so far.
    pub fn finished(&self) -> [Vec<ShardInfo>; 2] {
        each!(self, pipeline => pipeline.sink().finished())
    }

    /// Encode the rest and close the last shards. Returns the shards of both splits in order.
    ///
    /// # Errors
    /// As for `run`.
    pub fn finish(&self) -> Result<[Vec<ShardInfo>; 2]> {
        while self.run(u64::MAX)? {}
        each!(self, pipeline => pipeline.finish(&self.encoder))
    }
}
