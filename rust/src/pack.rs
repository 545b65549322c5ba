//! Documents to one stream of tokens with the end-of-text token once after each, cut into shards.
//!
//! Nothing is padded, truncated or dropped. Encoding runs on all threads, writing keeps the order of the documents, so
//! the bytes are the same for any number of threads. Memory holds one batch of documents.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use tokenizers::Tokenizer;

use crate::bpe::{Bpe, Scratch, Simd};
use crate::error::{Error, Result};
use crate::shard::{ShardInfo, ShardWriter};

/// A long document is encoded in parts of about this many bytes.
const PART_BYTES: usize = 1 << 18;
/// 2^16 words of 32 bytes, 2 MB per thread.
const CACHE_BITS: u32 = 16;

/// Encodes documents, without special tokens of the tokenizer's own: byte-level BPE by `bpe`, any other tokenizer by the
/// `tokenizers` crate.
pub struct Encoder {
    kind: Kind,
    pool: rayon::ThreadPool,
}

enum Kind {
    Bpe {
        bpe: Box<Bpe>,
        scratches: Mutex<Vec<Scratch<u32>>>,
    },
    Any(Box<Tokenizer>),
}

impl Encoder {
    /// From the text of a tokenizer.json; `num_threads` 0 means all cores.
    ///
    /// # Errors
    /// When the crate refuses the tokenizer.
    pub fn new(tokenizer_json: &str, num_threads: usize) -> Result<Self> {
        let kind = match Bpe::new(tokenizer_json, Simd::detect())? {
            Some(bpe) => Kind::Bpe {
                bpe: Box::new(bpe),
                scratches: Mutex::default(),
            },
            None => Kind::Any(Box::new(any_tokenizer(tokenizer_json)?)),
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(num_threads)
            .build()
            .map_err(|error| Error::Value(format!("cannot start {num_threads} threads: {error}")))?;
        Ok(Self { kind, pool })
    }

    /// Whether the tokenizer is one that `bpe` encodes.
    pub fn is_byte_level_bpe(&self) -> bool {
        matches!(self.kind, Kind::Bpe { .. })
    }

    /// Ids of every document, in order.
    ///
    /// # Errors
    /// When a document cannot be encoded.
    pub fn encode(&self, documents: &[String]) -> Result<Vec<Vec<u32>>> {
        self.pool
            .install(|| documents.par_iter().map(|text| self.encode_one(text)).collect())
    }

    fn encode_one(&self, text: &str) -> Result<Vec<u32>> {
        match &self.kind {
            Kind::Bpe { bpe, scratches } => {
                let encode_part = |part: &&str| {
                    let taken = lock(scratches).pop();
                    let mut scratch = taken.unwrap_or_else(|| Scratch::new(CACHE_BITS));
                    let mut ids = Vec::new();
                    bpe.encode(part, &mut scratch, &mut ids);
                    lock(scratches).push(scratch);
                    ids
                };
                let parts = bpe.parts(text, PART_BYTES);
                Ok(parts.par_iter().map(encode_part).collect::<Vec<_>>().concat())
            }
            Kind::Any(tokenizer) => tokenizer
                .encode_fast(text, false)
                .map(|found| found.get_ids().to_vec())
                .map_err(|error| Error::Data(error.to_string())),
        }
    }
}

/// The lock of a list that is whole at every moment, even when a thread has panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn any_tokenizer(tokenizer_json: &str) -> Result<Tokenizer> {
    let mut tokenizer: Tokenizer = tokenizer_json
        .parse()
        .map_err(|error: tokenizers::Error| Error::Tokenizer(error.to_string()))?;
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(None)
        .map_err(|error| Error::Tokenizer(error.to_string()))?;
    Ok(tokenizer)
}

/// Writes the shards of one split.
pub struct Packer {
    directory: PathBuf,
    split: String,
    vocab_size: u32,
    eos_id: u32,
    shard_tokens: u64,
    current: Option<ShardWriter>,
    finished: Vec<ShardInfo>,
}

impl Packer {
    /// Shards `SPLIT-00000.tok`, … of at most `shard_tokens` tokens in `directory`.
    ///
    /// # Errors
    /// When the end-of-text id is not below the vocabulary size or a shard may hold nothing.
    pub fn new(directory: &Path, split: &str, vocab_size: u32, eos_id: u32, shard_tokens: u64) -> Result<Self> {
        if eos_id >= vocab_size {
            return Err(Error::Value(format!(
                "eos_id {eos_id} is not below the vocabulary size {vocab_size}"
            )));
        }
        if shard_tokens == 0 {
            return Err(Error::Value("shard_tokens must be at least 1".into()));
        }
        Ok(Self {
            directory: directory.to_owned(),
            split: split.to_owned(),
            vocab_size,
            eos_id,
            shard_tokens,
            current: None,
            finished: Vec::new(),
        })
    }

    /// Append one document and its end-of-text token.
    ///
    /// # Errors
    /// For an id outside the vocabulary or a failed write.
    pub fn add_document(&mut self, ids: &[u32]) -> Result<()> {
        let mut rest = ids;
        while !rest.is_empty() {
            let shard_tokens = self.shard_tokens;
            let shard = self.open_shard()?;
            let room = (shard_tokens - shard.num_tokens()).min(rest.len() as u64) as usize;
            shard.push(&rest[..room])?;
            rest = &rest[room..];
        }
        let eos_id = self.eos_id;
        let shard = self.open_shard()?;
        shard.push(&[eos_id])?;
        shard.end_document();
        Ok(())
    }

    /// Close the last shard; the shards of the split in order.
    ///
    /// # Errors
    /// When a write fails.
    pub fn finish(mut self) -> Result<Vec<ShardInfo>> {
        self.close_shard()?;
        Ok(self.finished)
    }

    /// The shard with room for a token, a new one when the last is full.
    fn open_shard(&mut self) -> Result<&mut ShardWriter> {
        if self
            .current
            .as_ref()
            .is_some_and(|shard| shard.num_tokens() >= self.shard_tokens)
        {
            self.close_shard()?;
        }
        let shard = if let Some(shard) = self.current.take() {
            shard
        } else {
            let name = format!("{}-{:05}.tok", self.split, self.finished.len());
            ShardWriter::create(&self.directory.join(name), self.vocab_size)?
        };
        Ok(self.current.insert(shard))
    }

    fn close_shard(&mut self) -> Result<()> {
        if let Some(shard) = self.current.take() {
            self.finished.push(shard.finish()?);
        }
        Ok(())
    }
}
