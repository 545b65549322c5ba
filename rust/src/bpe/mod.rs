//! Byte-level BPE with the GPT-2 pattern, exactly the ids of the `tokenizers` crate, many times faster.
//!
//! Text is cut at added tokens (`<|endoftext|>`), then into words by hand-written rules instead of a regular expression; a
//! word's tokens come from a cache of words, or from merging its bytes. A word never reaches into the next, so a text can be
//! cut into blocks between words and encoded on all threads (`blocks`).

mod cache;
mod classes;
mod hash;
mod merge;
mod spec;
mod words;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::error::{Error, Result};
use cache::{Key, WordCache};
use classes::Classes;
use merge::Merges;
use spec::Spec;
use words::Words;

/// Bytes of a block, about.
const BLOCK_BYTES: usize = 1 << 18;

/// An encoder that threads share; what changes is in their `Scratch`.
pub struct Bpe {
    classes: Classes,
    merges: Merges,
    added: Option<AhoCorasick>,
    added_ids: Vec<u32>,
    /// No added token holds white space, so text may be cut at a space.
    can_cut: bool,
}

/// What one thread keeps from text to text.
pub struct Scratch {
    cache: WordCache,
}

impl Scratch {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            cache: WordCache::new(),
        }
    }
}

impl Bpe {
    /// From the text of a tokenizer.json; None when it is not a plain byte-level BPE with the GPT-2 pattern.
    ///
    /// # Errors
    /// When the tables cannot be built.
    pub fn new(tokenizer_json: &str) -> Result<Option<Self>> {
        let Some(spec) = Spec::read(tokenizer_json) else {
            return Ok(None);
        };
        let (contents, added_ids): (Vec<_>, Vec<_>) = spec.added_tokens.into_iter().unzip();
        let added = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&contents)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(Some(Self {
            classes: Classes::new()?,
            merges: Merges::new(spec.byte_ids, spec.merges.into_iter()),
            can_cut: !contents.iter().any(|token| token.contains(char::is_whitespace)),
            added: (!added_ids.is_empty()).then_some(added),
            added_ids,
        }))
    }

    /// Append the ids of a text.
    pub fn encode(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        let mut done = 0;
        if let Some(added) = &self.added {
            for found in added.find_iter(text) {
                self.encode_words(&text[done..found.start()], scratch, ids);
                ids.push(self.added_ids[found.pattern().as_usize()]);
                done = found.end();
            }
        }
        self.encode_words(&text[done..], scratch, ids);
    }

    /// Cut a text into blocks whose ids, one after another, are the ids of the text.
    ///
    /// A cut is made before a space between two ASCII letters: there the pattern ends a word whatever stands around it.
    pub fn blocks<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let (bytes, mut blocks, mut start) = (text.as_bytes(), Vec::new(), 0);
        while self.can_cut && bytes.len() - start > BLOCK_BYTES {
            let window = &bytes[start + BLOCK_BYTES - 1..];
            let cut = window
                .windows(3)
                .position(|three| three[0].is_ascii_alphabetic() && three[1] == b' ' && three[2].is_ascii_alphabetic());
            let Some(offset) = cut else { break };
            let end = start + BLOCK_BYTES + offset;
            blocks.push(&text[start..end]);
            start = end;
        }
        blocks.push(&text[start..]);
        blocks
    }

    fn encode_words(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        let mut start = 0;
        for word in Words::new(text, &self.classes) {
            let key = Key::new(text.as_bytes(), start, word.len());
            start += word.len();
            let Some(key) = key else {
                self.merges.encode(word.as_bytes(), ids);
                continue;
            };
            if !scratch.cache.emit(key, ids) {
                let before = ids.len();
                self.merges.encode(word.as_bytes(), ids);
                scratch.cache.insert(key, &ids[before..]);
            }
        }
    }
}
