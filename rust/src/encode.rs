//! Encode text into ids: byte-level BPE with `bpe`, BPE of characters with `sentencepiece`, any other tokenizer with the
//! `tokenizers` crate.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Deserialize;
use tokenizers::{ModelWrapper, Tokenizer};

use crate::bpe::{Bpe, File, Id, Scratch, Simd, compact, cut_into_parts};
use crate::error::{Error, Result};
use crate::fallback::Fallback;
use crate::library::guarded;
use crate::sentencepiece::SentencePiece;

/// A long document is encoded in parts of about this many bytes.
const PART_BYTES: usize = 1 << 18;
/// Slots of the word caches of all threads together, 32 bytes each: 64 MB at most.
const CACHE_SLOTS: usize = 1 << 21;

/// More ids may be unused than this and than the tokens there are only by mistake: every id is a row of a model.
const MAX_UNUSED_IDS: usize = 1 << 10;

/// Encodes documents. It adds no special tokens.
pub struct Encoder {
    kind: Kind,
    json: String,
    vocab_size: u32,
    special_tokens: Vec<(String, u32)>,
    dropout: Option<f32>,
    simd: Simd,
}

/// The part of a tokenizer.json that both kinds of encoders check.
#[derive(Default, Deserialize)]
struct Added {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

impl Added {
    /// Those of a file that has been read, because reading a large one again takes a tenth of the start-up.
    fn of(file: &File<'_>) -> Self {
        let tokens = file.added_tokens.iter().map(|token| AddedToken {
            id: token.id,
            content: token.content.clone(),
            special: token.special,
        });
        Self {
            added_tokens: tokens.collect(),
        }
    }

    fn read(tokenizer_json: &str) -> Result<Self> {
        serde_json::from_str(tokenizer_json).map_err(|error| Error::Tokenizer(error.to_string()))
    }
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

enum Kind {
    Bpe(Box<Bpe>),
    SentencePiece(Box<SentencePiece>),
    /// Any other tokenizer, and in one sentence why it is one.
    Any(Box<Fallback>, String),
}

impl Encoder {
    /// Make an encoder from the text of a tokenizer.json. Dropout, which gives other ids each time, is switched off.
    ///
    /// # Errors
    /// When the `tokenizers` crate rejects the file, its ids cannot be used, or `TTTKIT_SIMD` names instructions that
    /// this processor lacks.
    pub fn new(tokenizer_json: &str) -> Result<Self> {
        let simd = Simd::choose()?;
        let unlimited = |tokenizer: &Tokenizer| tokenizer.to_string(false).map_err(refused);
        let json = |has_limits| {
            if has_limits {
                unlimited(&any_tokenizer(tokenizer_json)?)
            } else {
                Ok(compact(tokenizer_json))
            }
        };
        let file = File::read(tokenizer_json);
        let has_limits = file.as_ref().is_ok_and(File::has_limits);
        let added = file.as_ref().map(Added::of).unwrap_or_default();
        let known = match file {
            Ok(file) if file.model.byte_fallback => {
                SentencePiece::new(file).map(|bpe| (bpe.vocab_size(), Kind::SentencePiece(Box::new(bpe))))
            }
            Ok(file) => Bpe::from_file(file, simd)?.map(|bpe| (bpe.vocab_size(), Kind::Bpe(Box::new(bpe)))),
            Err(reason) => Err(reason),
        };
        let reason = match known {
            Ok((vocab_size, kind)) => {
                return Self {
                    kind,
                    json: json(has_limits)?,
                    vocab_size,
                    special_tokens: Vec::new(),
                    dropout: None,
                    simd,
                }
                .checked(added);
            }
            Err(reason) => format!("the tokenizers library encodes because {reason}"),
        };
        let mut tokenizer = any_tokenizer(tokenizer_json)?;
        if let Some(dropout) = take_dropout(&mut tokenizer) {
            let encoder = Self::new(&unlimited(&tokenizer)?)?;
            return Ok(Self {
                dropout: Some(dropout),
                ..encoder
            });
        }
        Self {
            json: unlimited(&tokenizer)?,
            vocab_size: vocab_size_of(&tokenizer),
            kind: Kind::Any(Box::new(Fallback::new(&tokenizer)?), reason),
            special_tokens: Vec::new(),
            dropout: None,
            simd,
        }
        .checked(Added::read(tokenizer_json)?)
    }

    /// Check the ids and note the special tokens.
    fn checked(mut self, Added { added_tokens: added }: Added) -> Result<Self> {
        if let Some((token, id)) = added.iter().find_map(|token| {
            let id = self.token_id(&token.content)?;
            (id != token.id).then_some((token, id))
        }) {
            let (content, wanted) = (&token.content, token.id);
            return Err(Error::Tokenizer(format!(
                "the added token `{content}` has the id {wanted} in the file, but the next free id is {id}"
            )));
        }
        match &self.kind {
            Kind::Bpe(bpe) => check_gaps(self.vocab_size, bpe.num_tokens())?,
            Kind::SentencePiece(bpe) => check_gaps(self.vocab_size, bpe.num_tokens())?,
            // It was checked when it was read.
            Kind::Any(..) => {}
        }
        let special = added.into_iter().filter(|token| token.special);
        self.special_tokens = special.map(|token| (token.content, token.id)).collect();
        Ok(self)
    }

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

fn any_tokenizer(tokenizer_json: &str) -> Result<Tokenizer> {
    let mut tokenizer: Tokenizer = guarded(|| tokenizer_json.parse()).map_err(Error::Tokenizer)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(refused)?;
    // The crate takes time for every id up to the largest when it writes a tokenizer.json.
    check_gaps(vocab_size_of(&tokenizer), tokenizer.get_vocab_size(true))?;
    Ok(tokenizer)
}

fn vocab_size_of(tokenizer: &Tokenizer) -> u32 {
    let largest = tokenizer.get_vocab(true).into_values().max();
    largest.map_or(0, |largest| largest.saturating_add(1))
}

/// Refuse ids that leave more of the vocabulary unused than any tokenizer in use does.
fn check_gaps(vocab_size: u32, num_tokens: usize) -> Result<()> {
    if vocab_size as usize <= num_tokens + num_tokens.max(MAX_UNUSED_IDS) {
        return Ok(());
    }
    Err(Error::Tokenizer(format!(
        "its ids go up to {}, but it has only {num_tokens} tokens",
        vocab_size - 1
    )))
}

/// Switch off the dropout of a BPE and return it. None if there is none.
fn take_dropout(tokenizer: &mut Tokenizer) -> Option<f32> {
    let ModelWrapper::BPE(model) = tokenizer.get_model() else {
        return None;
    };
    let dropout = model.dropout.filter(|&share| share != 0.0)?;
    let mut model = model.clone();
    model.dropout = None;
    tokenizer.with_model(model);
    Some(dropout)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn refused(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}
