//! Byte-level BPE with the GPT-2 pattern: exactly the ids of the `tokenizers` crate, many times faster.
//!
//! Text is cut at added tokens (`<|endoftext|>`), then into words on bit masks of 64 bytes instead of by a regular expression;
//! a word's tokens come from a cache of words, or from merging its bytes. Words are taken in batches: first all are hashed
//! and their slots of the cache asked for, then all are emitted, so that no word waits for memory alone. No word reaches
//! across certain places (`cut`), so a text can be encoded in blocks, on all threads.
//!
//! The rule for added tokens is that of `encode(text, add_special_tokens=False)`: they are found in the text, the leftmost
//! first and the longest of those, special or not.

mod cache;
mod classes;
mod hash;
mod large;
mod long;
mod masks;
mod merge;
mod spec;
mod starts;
#[cfg(test)]
mod words;

use std::collections::HashSet;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::error::{Error, Result};
pub use cache::Id;
use cache::{Key, WordCache};
use classes::{Class, Classes};
pub use masks::{LANES, Masks, Simd, masks_of};
use merge::Merges;
pub use spec::compact;
use spec::{Spec, Vocab};

/// Words of a batch; a mask of starts adds up to 64.
const BATCH_WORDS: usize = 128;

/// An encoder that threads share; what changes is in their `Scratch`.
pub struct Bpe {
    classes: Classes,
    merges: Merges,
    added: Option<AhoCorasick>,
    added_ids: Vec<u32>,
    added_characters: HashSet<char>,
    vocab: Vocab,
    has_limits: bool,
    simd: Simd,
}

/// What one thread keeps from text to text.
pub struct Scratch<T: Id> {
    cache: WordCache<T>,
    starts: Vec<u64>,
    words: Vec<Word>,
}

#[derive(Clone, Copy)]
struct Word {
    start: usize,
    end: usize,
    key: Key,
    line: usize,
}

impl<T: Id> Scratch<T> {
    /// With a cache of 2^`cache_bits` slots of 32 bytes.
    pub fn new(cache_bits: u32) -> Self {
        Self {
            cache: WordCache::new(cache_bits),
            starts: Vec::new(),
            words: Vec::with_capacity(BATCH_WORDS),
        }
    }
}

impl Bpe {
    /// From the text of a tokenizer.json; None when it is not a plain byte-level BPE with the GPT-2 pattern.
    ///
    /// # Errors
    /// When the tables cannot be built.
    pub fn new(tokenizer_json: &str, simd: Simd) -> Result<Option<Self>> {
        let Some(spec) = Spec::read(tokenizer_json) else {
            return Ok(None);
        };
        let (contents, added_ids): (Vec<_>, Vec<u32>) = spec.added_tokens.into_iter().unzip();
        let added = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&contents)
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(Some(Self {
            classes: Classes::new()?,
            merges: Merges::new(&spec.byte_ids, &spec.merges),
            added: (!added_ids.is_empty()).then_some(added),
            added_ids,
            added_characters: contents.iter().flat_map(|token| token.chars()).collect(),
            vocab: spec.vocab,
            has_limits: spec.has_limits,
            simd,
        }))
    }

    /// Every id is below it.
    pub fn vocab_size(&self) -> u32 {
        let ids = self.vocab.values().chain(&self.added_ids);
        ids.max().map_or(0, |max| max.saturating_add(1))
    }

    /// The id of a token, spelled as in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        let added = self.added.as_ref().and_then(|added| added.find(token));
        let whole = added.filter(|found| found.len() == token.len());
        let added_id = whole.map(|found| self.added_ids[found.pattern().as_usize()]);
        added_id.or_else(|| self.vocab.get(token).copied())
    }

    /// Whether the file asks for texts to be cut or filled up to a length, which is never done here.
    pub fn has_limits(&self) -> bool {
        self.has_limits
    }

    /// The instructions that it uses.
    pub fn simd(&self) -> Simd {
        self.simd
    }

    /// Append the ids of a text. `T` must hold every id of the vocabulary.
    pub fn encode<T: Id>(&self, text: &str, scratch: &mut Scratch<T>, ids: &mut Vec<T>) {
        let mut done = 0;
        if let Some(added) = &self.added {
            for found in added.find_iter(text) {
                self.encode_words(&text[done..found.start()], scratch, ids);
                ids.push(T::of(self.added_ids[found.pattern().as_usize()]));
                done = found.end();
            }
        }
        self.encode_words(&text[done..], scratch, ids);
    }

    /// The last place in `text` after byte `from` where it may be cut: the ids of both parts, one after the other, are the
    /// ids of the whole, whatever stands around it.
    ///
    /// That is before white space that follows something else, and where a letter or number is followed by another class:
    /// there the pattern ends a word in any case. The character behind must occur in no added token.
    pub fn last_cut(&self, text: &str, from: usize) -> Option<usize> {
        let mut characters = text.char_indices().rev();
        let (mut at, mut behind) = characters.next()?;
        for (before_at, before) in characters {
            if at <= from {
                return None;
            }
            let (first, second) = (self.classes.of_char(before), self.classes.of_char(behind));
            let ends = first != second && (second == Class::Space || matches!(first, Class::Letter | Class::Number));
            if ends && !self.added_characters.contains(&behind) {
                return Some(at);
            }
            (at, behind) = (before_at, before);
        }
        None
    }

    /// Parts of a text of about `num_bytes` that may be encoded one by one.
    pub fn parts<'a>(&self, text: &'a str, num_bytes: usize) -> Vec<&'a str> {
        let (mut parts, mut start, mut stop) = (Vec::new(), 0, num_bytes);
        while stop < text.len() {
            let end = text.floor_char_boundary(stop);
            if let Some(cut) = self.last_cut(&text[start..end], 0) {
                parts.push(&text[start..start + cut]);
                start += cut;
                stop = start + num_bytes;
            } else {
                stop += num_bytes;
            }
        }
        parts.push(&text[start..]);
        parts
    }

    fn encode_words<T: Id>(&self, text: &str, scratch: &mut Scratch<T>, ids: &mut Vec<T>) {
        if text.is_empty() {
            return;
        }
        let mut starts = std::mem::take(&mut scratch.starts);
        starts::find_starts(text, &self.classes, self.simd, &mut starts);
        starts[0] &= !1; // the first word starts at 0, and words are told by their ends
        let mut start = 0;
        for (index, &mask) in starts.iter().enumerate() {
            let mut mask = mask;
            while mask != 0 {
                let end = index * LANES + mask.trailing_zeros() as usize;
                mask &= mask - 1;
                scratch.add_word(text, start, end);
                start = end;
            }
            if scratch.words.len() > BATCH_WORDS - LANES {
                self.emit(text, scratch, ids);
            }
        }
        scratch.add_word(text, start, text.len());
        self.emit(text, scratch, ids);
        scratch.starts = starts;
    }

    /// Append the tokens of the words of the batch.
    fn emit<T: Id>(&self, text: &str, scratch: &mut Scratch<T>, ids: &mut Vec<T>) {
        let words = std::mem::take(&mut scratch.words);
        for word in &words {
            if let Some(inline) = scratch.cache.get(word.key, word.line) {
                push_inline(ids, inline);
            } else {
                self.emit_unknown(&text.as_bytes()[word.start..word.end], *word, scratch, ids);
            }
        }
        scratch.words = words;
        scratch.words.clear();
    }

    #[cold]
    fn emit_unknown<T: Id>(&self, bytes: &[u8], word: Word, scratch: &mut Scratch<T>, ids: &mut Vec<T>) {
        if word.key.is_long()
            && let Some(known) = scratch.cache.get_long(bytes)
        {
            ids.extend_from_slice(known);
            return;
        }
        let start = ids.len();
        self.merges.encode(bytes, ids);
        if word.key.is_long() {
            scratch.cache.insert_long(bytes, &ids[start..]);
        } else {
            scratch.cache.insert(word.key, word.line, &ids[start..]);
        }
    }
}

impl<T: Id> Scratch<T> {
    #[inline]
    fn add_word(&mut self, text: &str, start: usize, end: usize) {
        let key = Key::new(text.as_bytes(), start, end - start);
        let line = self.cache.line(key);
        self.cache.prefetch(line);
        self.words.push(Word { start, end, key, line });
    }
}

/// Append the tokens of a slot. All its places are copied at once; those behind the last token do not count.
#[inline]
fn push_inline<T: Id>(ids: &mut Vec<T>, inline: &T::Inline) {
    let places = inline.as_ref();
    let (len, count) = (ids.len(), places[places.len() - 1].value() as usize);
    ids.reserve(places.len());
    // SAFETY: the vector has room for all places, which are written before the length grows by no more than their number.
    unsafe {
        let end = ids.as_mut_ptr().add(len);
        end.copy_from_nonoverlapping(places.as_ptr(), places.len());
        ids.set_len(len + count.min(places.len()));
    }
}
