//! Byte-level BPE: exactly the ids of the `tokenizers` crate, many times faster.
//!
//! Text is cut at added tokens (`<|endoftext|>`), normalized, then split into words, with bit masks of 64 bytes instead of
//! a regular expression. The tokens of a word come from a cache or from merging its bytes. Words are processed in
//! batches: first all are hashed and their cache slots prefetched, then all are emitted, so the waits for memory
//! overlap. At certain places (`last_cut`) no word continues, so a text can be encoded in blocks on all threads.

mod added;
mod cache;
mod file;
mod hash;
mod large;
mod long;
mod masks;
mod merge;
mod normalize;
mod pattern;
mod spec;

use std::borrow::Cow;
use std::collections::HashSet;

use crate::error::Result;
use added::{Added, Part};
pub use cache::Id;
use cache::{Key, WordCache};
use file::Vocab;
pub use file::compact;
pub use masks::{LANES, Masks, Simd, masks_of};
use merge::Merges;
use normalize::Normalizer;
use pattern::Splitter;
use spec::{Spec, byte_characters};

/// Words of a batch. One mask of starts adds up to 64 words.
const BATCH_WORDS: usize = 128;

/// An encoder that threads share. Each thread keeps mutable data in its own `Scratch`.
pub struct Bpe {
    splitter: Splitter,
    normalizer: Normalizer,
    merges: Merges,
    /// Added tokens that are matched in the text, and those that are matched in the normalized text.
    added: [Option<Added>; 2],
    added_characters: HashSet<char>,
    /// Whether added tokens take the white space around them.
    added_strip: bool,
    vocab: Vocab,
    ignore_merges: bool,
    byte_characters: [char; 256],
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
    /// Make an encoder from the text of a tokenizer.json. The inner error says in one sentence why this encoder cannot
    /// be used for it.
    ///
    /// # Errors
    /// When the tables cannot be built.
    pub fn new(tokenizer_json: &str, simd: Simd) -> Result<std::result::Result<Self, String>> {
        let spec = match Spec::read(tokenizer_json) {
            Ok(spec) => spec,
            Err(reason) => return Ok(Err(reason)),
        };
        let normalized_content = |token: &file::AddedToken| file::AddedToken {
            content: spec.normalizer.apply(&token.content).into_owned(),
            ..token.clone()
        };
        let (late, early): (Vec<_>, Vec<_>) = spec.added_tokens.into_iter().partition(|token| token.normalized);
        let added = [
            Added::new(early)?,
            Added::new(late.iter().map(normalized_content).collect())?,
        ];
        let tokens = || added.iter().flatten().flat_map(Added::tokens);
        Ok(Ok(Self {
            merges: Merges::new(&spec.byte_ids, &spec.merges),
            added_characters: added.iter().flatten().flat_map(Added::characters).collect(),
            added_strip: tokens().any(|token| token.lstrip || token.rstrip),
            added,
            splitter: spec.splitter,
            normalizer: spec.normalizer,
            vocab: spec.vocab,
            ignore_merges: spec.ignore_merges,
            byte_characters: byte_characters(),
            has_limits: spec.has_limits,
            simd,
        }))
    }

    /// The vocabulary size: every id is below it.
    pub fn vocab_size(&self) -> u32 {
        let added = self
            .added
            .iter()
            .flatten()
            .flat_map(Added::tokens)
            .map(|token| token.id);
        let ids = self.vocab.values().copied().chain(added);
        ids.max().map_or(0, |max| max.saturating_add(1))
    }

    /// The number of tokens.
    pub fn num_tokens(&self) -> usize {
        let added = self
            .added
            .iter()
            .flatten()
            .flat_map(Added::tokens)
            .map(|token| token.id);
        self.vocab
            .values()
            .copied()
            .chain(added)
            .collect::<HashSet<u32>>()
            .len()
    }

    /// The id of a token, spelled as in the vocabulary, or None.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        let mut added = self.added.iter().flatten().flat_map(Added::tokens);
        let known = added.find(|added| added.content == token).map(|added| added.id);
        known.or_else(|| self.vocab.get(token).copied())
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
        self.added.iter_mut().flatten().for_each(Added::skip_special);
    }

    /// Append the ids of a text. `T` must hold every id of the vocabulary. `begins` says that the text begins a document
    /// and does not continue one that was cut at `last_cut`.
    pub fn encode<T: Id>(&self, text: &str, begins: bool, scratch: &mut Scratch<T>, ids: &mut Vec<T>) {
        let mut is_first = !begins;
        split(self.added[0].as_ref(), text, |part| match part {
            Part::Token(id) => {
                ids.push(T::of(id));
                is_first = false;
            }
            Part::Text(text) => split(
                self.added[1].as_ref(),
                &self.normalizer.apply(text),
                |part| match part {
                    Part::Token(id) => {
                        ids.push(T::of(id));
                        is_first = false;
                    }
                    Part::Text(text) => {
                        let continues = std::mem::replace(&mut is_first, false);
                        self.encode_words(&self.with_space(text, continues), scratch, ids);
                    }
                },
            ),
        });
    }

    /// The text with a space before it, if the tokenizer asks for one.
    fn with_space<'a>(&self, text: &'a str, continues: bool) -> Cow<'a, str> {
        if !self.splitter.adds_space() || continues || text.starts_with(' ') {
            return Cow::Borrowed(text);
        }
        Cow::Owned(format!(" {text}"))
    }

    /// The last place in `text` after byte `from` where it may be cut: the ids of the two parts together are the ids of
    /// the whole, whatever text surrounds it.
    ///
    /// A word ends there in every text that has these two neighbors. The normalizer changes neither of them, nor does it
    /// join a mark to the second. The second neighbor is in no added token.
    pub fn last_cut(&self, text: &str, from: usize) -> Option<usize> {
        let mut characters = text.char_indices().rev();
        let (mut after, (mut at, mut second)) = ('\0', characters.next()?);
        if self.normalizer != Normalizer::Nothing {
            (after, (at, second)) = (second, characters.next()?);
        }
        for (first_at, first) in characters {
            if at <= from {
                return None;
            }
            // The rest can be counted in words, since the part before it ends inside a word.
            if !first.is_whitespace()
                && self.splitter.may_cut(first, second)
                && [first, second, after]
                    .iter()
                    .all(|&character| self.normalizer.keeps(character))
                && !self.near_added_token(first, second)
            {
                return Some(at);
            }
            (after, at, second) = (second, first_at, first);
        }
        None
    }

    /// Whether an added token could reach from one of two neighbors to the other.
    fn near_added_token(&self, first: char, second: char) -> bool {
        let touches = |character| self.added_characters.contains(&character);
        let strips = self.added_strip && (first.is_whitespace() || touches(first));
        touches(second) || strips || self.splitter.adds_space() && touches(first)
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
        self.splitter.find_starts(text, self.simd, &mut starts);
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
        match self.whole_word(bytes) {
            Some(id) => ids.push(T::of(id)),
            None => self.merges.encode(bytes, ids),
        }
        if word.key.is_long() {
            scratch.cache.insert_long(bytes, &ids[start..]);
        } else {
            scratch.cache.insert(word.key, word.line, &ids[start..]);
        }
    }
}

impl Bpe {
    /// The id of a word that is in the vocabulary, if the merges are ignored then.
    fn whole_word(&self, bytes: &[u8]) -> Option<u32> {
        if !self.ignore_merges {
            return None;
        }
        let word: String = bytes
            .iter()
            .map(|&byte| self.byte_characters[usize::from(byte)])
            .collect();
        self.vocab.get(word.as_str()).copied()
    }
}

/// Call `found` with the parts of a text.
fn split<'a>(added: Option<&Added>, text: &'a str, mut found: impl FnMut(Part<'a>)) {
    match added {
        Some(added) => added.split(text, found),
        None if text.is_empty() => {}
        None => found(Part::Text(text)),
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
