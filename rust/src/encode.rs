//! Text to ids: byte-level BPE by `bpe`, any other tokenizer by the `tokenizers` crate.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use tokenizers::Tokenizer;

use crate::bpe::{Bpe, Id, Scratch, Simd};
use crate::error::{Error, Result};

/// A long document is encoded in parts of about this many bytes.
const PART_BYTES: usize = 1 << 18;
/// Caches of words, 32 bytes each, of all threads together: 64 MB at most.
const CACHE_SLOTS: usize = 1 << 21;

/// Encodes documents, without special tokens of the tokenizer's own.
pub struct Encoder {
    kind: Kind,
    pool: rayon::ThreadPool,
    scratches: Mutex<Vec<Scratch<u32>>>,
}

enum Kind {
    Bpe(Box<Bpe>),
    Any(Box<Tokenizer>),
}

impl Encoder {
    /// From the text of a tokenizer.json; `num_threads` 0 means all cores.
    ///
    /// # Errors
    /// When the crate refuses the tokenizer.
    pub fn new(tokenizer_json: &str, num_threads: usize) -> Result<Self> {
        let kind = match Bpe::new(tokenizer_json, Simd::detect())? {
            Some(bpe) => Kind::Bpe(Box::new(bpe)),
            None => Kind::Any(Box::new(any_tokenizer(tokenizer_json)?)),
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(num_threads)
            .build()
            .map_err(|error| Error::Value(format!("cannot start {num_threads} threads: {error}")))?;
        Ok(Self {
            kind,
            pool,
            scratches: Mutex::default(),
        })
    }

    /// Whether the tokenizer is one that `bpe` encodes.
    pub fn is_byte_level_bpe(&self) -> bool {
        matches!(self.kind, Kind::Bpe { .. })
    }

    /// Run on every thread at once; the results in order of the threads.
    pub fn on_all_threads<R: Send>(&self, work: impl Fn() -> R + Sync) -> Vec<R> {
        self.pool.broadcast(|_| work())
    }

    /// What a thread keeps while it encodes.
    pub fn scratch<T: Id>(&self) -> Scratch<T> {
        let slots = CACHE_SLOTS / self.pool.current_num_threads();
        Scratch::new(slots.max(1 << 12).ilog2().min(17))
    }

    /// The last place after byte `from` where `text` may be cut without a change of its ids.
    pub fn last_cut(&self, text: &str, from: usize) -> Option<usize> {
        match &self.kind {
            Kind::Bpe(bpe) => bpe.last_cut(text, from),
            Kind::Any(_) => None,
        }
    }

    /// Append the ids of a text. `T` must hold every id of the vocabulary.
    ///
    /// # Errors
    /// When the tokenizer refuses it.
    pub fn encode_into<T: Id>(&self, text: &str, scratch: &mut Scratch<T>, ids: &mut Vec<T>) -> Result<()> {
        match &self.kind {
            Kind::Bpe(bpe) => bpe.encode(text, scratch, ids),
            Kind::Any(tokenizer) => {
                let encoding = tokenizer.encode_fast(text, false);
                let encoding = encoding.map_err(|error| Error::Data(error.to_string()))?;
                ids.extend(encoding.get_ids().iter().map(|&id| T::of(id)));
            }
        }
        Ok(())
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
        let parts = match &self.kind {
            Kind::Bpe(bpe) => bpe.parts(text, PART_BYTES),
            Kind::Any(_) => vec![text],
        };
        let encode_part = |part: &&str| {
            let taken = lock(&self.scratches).pop();
            let mut scratch = taken.unwrap_or_else(|| self.scratch());
            let mut ids = Vec::new();
            let result = self.encode_into(part, &mut scratch, &mut ids);
            lock(&self.scratches).push(scratch);
            result.map(|()| ids)
        };
        Ok(parts.par_iter().map(encode_part).collect::<Result<Vec<_>>>()?.concat())
    }
}

/// The lock of something that is whole at every moment, even when a thread has panicked.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
