//! Encode text into ids: byte-level BPE with `bpe`, BPE of characters with `sentencepiece`, any other tokenizer with the
//! `tokenizers` crate. `load` reads and checks a tokenizer.json.

mod load;

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::bpe::{Bpe, Id, Scratch, Simd, cut_into_parts};
use crate::error::{Error, Result};
use crate::fallback::Fallback;
use crate::sentencepiece::SentencePiece;

/// A long document is encoded in parts of about this many bytes.
const PART_BYTES: usize = 1 << 18;
/// Slots of the word caches of all threads together, 32 bytes each: 64 MB at most.
const CACHE_SLOTS: usize = 1 << 21;

/// Encodes documents. It adds no special tokens.
pub struct Encoder {
    kind: Kind,
    json: String,
    vocab_size: u32,
    special_tokens: Vec<(String, u32)>,
    dropout: Option<f32>,
    simd: Simd,
}

enum Kind {
    Bpe(Box<Bpe>),
    SentencePiece(Box<SentencePiece>),
    /// Any other tokenizer, and in one sentence why it is one.
    Any(Box<Fallback>, String),
}

impl Encoder {
    /// The same encoder, which encodes a text that spells a special token as ordinary text.
    #[must_use]
    pub fn split_special(mut self) -> Self {
        match &mut self.kind {
            Kind::Bpe(bpe) => bpe.split_special(),
            Kind::SentencePiece(bpe) => bpe.split_special(),
            Kind::Any(fallback, _) => fallback.split_special(),
        }
        self
    }

    /// The tokenizer.json in its shortest form, without truncation or padding. It is stored next to the shards.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The vocabulary size: every id is below it.
    pub fn vocab_size(&self) -> u32 {
        self.vocab_size
    }

    /// The id of a token of the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        match &self.kind {
            Kind::Bpe(bpe) => bpe.token_id(token),
            Kind::SentencePiece(bpe) => bpe.token_id(token),
            Kind::Any(fallback, _) => fallback.token_id(token),
        }
    }

    /// The tokens that the file marks as special, with their ids.
    pub fn special_tokens(&self) -> &[(String, u32)] {
        &self.special_tokens
    }

    /// The share of merges that the file wants to drop at random, which this encoder never does. None if it is 0.
    pub fn dropout(&self) -> Option<f32> {
        self.dropout
    }

    /// Whether `bpe` encodes the text, and not `sentencepiece` or the `tokenizers` crate.
    pub fn is_byte_level_bpe(&self) -> bool {
        matches!(self.kind, Kind::Bpe { .. })
    }

    /// Why the `tokenizers` crate encodes the text, in one sentence. None if it does not.
    pub fn reason(&self) -> Option<&str> {
        match &self.kind {
            Kind::Bpe(_) | Kind::SentencePiece(_) => None,
            Kind::Any(_, reason) => Some(reason),
        }
    }

    /// The vector instructions in use.
    pub fn simd(&self) -> Simd {
        self.simd
    }

    /// Make the scratch space of one thread.
    pub fn scratch<T: Id>(&self) -> Scratch<T> {
        let slots = CACHE_SLOTS / rayon::current_num_threads();
        Scratch::new(slots.max(1 << 12).ilog2().min(18))
    }

    /// The last place after byte `from` where cutting `text` does not change its ids. None if there is none or it is
    /// unknown.
    pub fn last_cut(&self, text: &str, from: usize) -> Option<usize> {
        match &self.kind {
            Kind::Bpe(bpe) => bpe.last_cut(text, from),
            Kind::SentencePiece(bpe) => bpe.last_cut(text, from),
            Kind::Any(..) => None,
        }
    }

    /// Append the ids of a text. `T` must hold every id of the vocabulary. `begins` says that the text begins a document
    /// and does not continue one that was cut at `last_cut`.
    ///
    /// # Errors
    /// When the tokenizer rejects the text.
    pub fn encode_into<T: Id>(
        &self,
        text: &str,
        begins: bool,
        scratch: &mut Scratch<T>,
        ids: &mut Vec<T>,
    ) -> Result<()> {
        match &self.kind {
            Kind::Bpe(bpe) => bpe.encode(text, begins, scratch, ids),
            Kind::SentencePiece(bpe) => bpe.encode(text, begins, scratch, ids),
            Kind::Any(fallback, _) => fallback.encode(text, ids)?,
        }
        Ok(())
    }

    /// Return the ids of every document, in order. `num_threads` 0 means all cores.
    ///
    /// # Errors
    /// When a document cannot be encoded or the threads cannot start.
    pub fn encode(&self, documents: &[String], num_threads: usize) -> Result<Vec<Vec<u32>>> {
        let scratches = Mutex::default();
        threads(num_threads)?.install(|| {
            let encoded = documents.par_iter().map(|text| self.encode_one(text, &scratches));
            encoded.collect()
        })
    }

    fn encode_one(&self, text: &str, scratches: &Mutex<Vec<Scratch<u32>>>) -> Result<Vec<u32>> {
        let parts = cut_into_parts(text, PART_BYTES, |text, from| self.last_cut(text, from));
        let encode_part = |(index, part): (usize, &&str)| {
            let taken = lock(scratches).pop();
            let mut scratch = taken.unwrap_or_else(|| self.scratch());
            let mut ids = Vec::new();
            let result = self.encode_into(part, index == 0, &mut scratch, &mut ids);
            lock(scratches).push(scratch);
            result.map(|()| ids)
        };
        let encoded = parts.par_iter().enumerate().map(encode_part);
        Ok(encoded.collect::<Result<Vec<_>>>()?.concat())
    }
}

/// Start a pool of `num_threads` threads; 0 means one per core.
///
/// # Errors
/// When the threads cannot start.
pub fn threads(num_threads: usize) -> Result<ThreadPool> {
    let pool = ThreadPoolBuilder::new().num_threads(num_threads).build();
    pool.map_err(|error| Error::Value(format!("cannot start {num_threads} threads: {error}")))
}

/// Lock a mutex whose content is valid at every moment, even after a thread has panicked.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
