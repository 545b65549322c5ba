//! Byte-level BPE with the GPT-2 pattern: exactly the ids of the `tokenizers` crate, many times faster.
//!
//! Text is cut at added tokens (`<|endoftext|>`), then into words, with bit masks of 64 bytes instead of a regular
//! expression. The tokens of a word come from a cache or from merging its bytes. Words are processed in
//! batches: first all are hashed and their cache slots prefetched, then all are emitted, so the waits for memory
//! overlap. At certain places (`last_cut`) no word continues, so a text can be encoded in blocks on all threads.
//!
//! Added tokens follow the rule of `encode(text, add_special_tokens=False)`: the leftmost match in the text wins, then
//! the longest, whether the token is special or not.

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

/// Words of a batch. One mask of starts adds up to 64 words.
const BATCH_WORDS: usize = 128;

/// An encoder that threads share. Each thread keeps mutable data in its own `Scratch`.
pub struct Bpe {
    classes: Classes,
    merges: Merges,
    added: Option<AhoCorasick>,
    added_ids: Vec<u32>,
    special: Vec<bool>,
    splits_special: bool,
    added_characters: HashSet<char>,
    vocab: Vocab,
    has_limits: bool,
    simd: Simd,
}

/// Scratch space and word cache of one thread.
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
    /// Make a cache of 2^`cache_bits` slots of 32 bytes.
    pub fn new(cache_bits: u32) -> Self {
        Self {
            cache: WordCache::new(cache_bits),
            starts: Vec::new(),
            words: Vec::with_capacity(BATCH_WORDS),
        }
    }
}

impl Bpe {
    /// Make an encoder from the text of a tokenizer.json. None if it is not a plain byte-level BPE with the GPT-2
    /// pattern.
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
            special: spec.special,
            splits_special: false,
            added_characters: contents.iter().flat_map(|token| token.chars()).collect(),
            vocab: spec.vocab,
            has_limits: spec.has_limits,
            simd,
        }))
    }

    /// The vocabulary size: every id is below it.
    pub fn vocab_size(&self) -> u32 {
        let ids = self.vocab.values().chain(&self.added_ids);
        ids.max().map_or(0, |max| max.saturating_add(1))
    }

    /// The number of tokens.
    pub fn num_tokens(&self) -> usize {
        let known: HashSet<u32> = self.vocab.values().copied().collect();
        known.len() + self.added_ids.iter().filter(|&id| !known.contains(id)).count()
    }

    /// The id of a token, spelled as in the vocabulary, or None.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        let added = self.added.as_ref().and_then(|added| added.find(token));
        let whole = added.filter(|matched| matched.len() == token.len());
        let added_id = whole.map(|matched| self.added_ids[matched.pattern().as_usize()]);
        added_id.or_else(|| self.vocab.get(token).copied())
    }

    /// Whether the file asks for truncation or padding, which this encoder never does.
    pub fn has_limits(&self) -> bool {
        self.has_limits
    }

    /// The vector instructions in use.
    pub fn simd(&self) -> Simd {
        self.simd
    }

    /// From now on, encode a text that spells a special token as ordinary text, as `encode_special_tokens` does in
    /// `tokenizers`.
    pub fn split_special(&mut self) {
        self.splits_special = true;
    }

    /// Append the ids of a text. `T` must hold every id of the vocabulary.
    pub fn encode<T: Id>(&self, text: &str, scratch: &mut Scratch<T>, ids: &mut Vec<T>) {
        let mut done = 0;
        if let Some(added) = &self.added {
            for matched in added.find_iter(text) {
                if self.splits_special && self.special[matched.pattern().as_usize()] {
                    continue;
                }
                self.encode_words(&text[done..matched.start()], scratch, ids);
                ids.push(T::of(self.added_ids[matched.pattern().as_usize()]));
                done = matched.end();
            }
        }
        self.encode_words(&text[done..], scratch, ids);
    }

    /// The last place in `text` after byte `from` where it may be cut: the ids of the two parts together are the ids of
    /// the whole, whatever text surrounds it.
    ///
    /// A cut may be before white space that follows another class, or between a letter or number and another class: the
    /// pattern always ends a word there. The character after the place must not occur in an added token.
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

    /// Parts of a text of about `num_bytes` each that may be encoded one by one.
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
        starts[0] &= !1; // a start ends the word before it, and no word is before the first
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

    /// Append the tokens of the words in the batch.
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

/// Append the tokens of a slot. All places of the slot are copied at once; those after the last token are then cut off.
#[inline]
fn push_inline<T: Id>(ids: &mut Vec<T>, inline: &T::Inline) {
    let places = inline.as_ref();
    let (len, count) = (ids.len(), places[places.len() - 1].value() as usize);
    ids.reserve(places.len());
    // SAFETY: the vector has room for all places. They are written before the length grows, by at most their number.
    unsafe {
        let end = ids.as_mut_ptr().add(len);
        end.copy_from_nonoverlapping(places.as_ptr(), places.len());
        ids.set_len(len + count.min(places.len()));
    }
}
