//! Byte-level BPE: exactly the ids of the `tokenizers` crate, many times faster.
//!
//! Text is cut at added tokens (`<|endoftext|>`), normalized, then split into words, with bit masks of 64 bytes instead of
//! a regular expression. The tokens of a word come from a cache or from merging its bytes. Words are processed in
//! batches: first all are hashed and their cache slots prefetched, then all are emitted, so the waits for memory
//! overlap. At certain places (`last_cut`) no word continues, so a text can be encoded in blocks on all threads.

mod added;
mod cache;
mod file;
pub(crate) mod hash;
mod large;
pub(crate) mod long;
mod masks;
pub(crate) mod merge;
mod normalize;
mod pattern;
mod scratch;
mod spec;

use std::borrow::Cow;
use std::collections::HashSet;

use compact_str::CompactString;

use crate::error::Result;
use added::{Added, Part};
pub use cache::Id;
pub use file::{AddedToken, File, Vocab, compact};
pub use masks::{LANES, Masks, Simd, masks_of};
use merge::Merges;
use normalize::Normalizer;
use pattern::Splitter;
pub use scratch::Scratch;
use spec::{Spec, byte_characters};

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
    simd: Simd,
}

impl Bpe {
    /// Make an encoder from the text of a tokenizer.json. The inner error says in one sentence why this encoder cannot
    /// be used for it.
    ///
    /// # Errors
    /// When the tables cannot be built.
    pub fn new(tokenizer_json: &str, simd: Simd) -> Result<std::result::Result<Self, String>> {
        match File::read(tokenizer_json) {
            Ok(file) => Self::from_file(file, simd),
            Err(reason) => Ok(Err(reason)),
        }
    }

    /// Like `new`, for a file that is already read.
    ///
    /// # Errors
    /// When the tables cannot be built.
    pub fn from_file(file: File<'_>, simd: Simd) -> Result<std::result::Result<Self, String>> {
        let spec = match Spec::read(file) {
            Ok(spec) => spec,
            Err(reason) => return Ok(Err(reason)),
        };
        let normalized_content = |token: &AddedToken| AddedToken {
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
            simd,
        }))
    }

    /// The vocabulary size: every id is below it.
    pub fn vocab_size(&self) -> u32 {
        self.ids().max().map_or(0, |max| max.saturating_add(1))
    }

    /// The number of tokens.
    pub fn num_tokens(&self) -> usize {
        self.ids().collect::<HashSet<u32>>().len()
    }

    /// The ids of the vocabulary and of the added tokens, some of them twice.
    fn ids(&self) -> impl Iterator<Item = u32> {
        let added = self.added.iter().flatten().flat_map(Added::tokens);
        self.vocab.values().copied().chain(added.map(|token| token.id))
    }

    /// The id of a token, spelled as in the vocabulary, or None.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        let mut added = self.added.iter().flatten().flat_map(Added::tokens);
        let known = added.find(|added| added.content == token).map(|added| added.id);
        known.or_else(|| self.vocab.get(token).copied())
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
        cut_into_parts(text, num_bytes, |text, from| self.last_cut(text, from))
    }

    fn encode_words<T: Id>(&self, text: &str, scratch: &mut Scratch<T>, ids: &mut Vec<T>) {
        if text.is_empty() {
            return;
        }
        let mut starts = std::mem::take(&mut scratch.starts);
        self.splitter.find_starts(text, self.simd, &mut starts);
        scratch.encode_words(text, &starts, ids, |range, ids| {
            let word = &text.as_bytes()[range];
            match self.whole_word(word) {
                Some(id) => ids.push(T::of(id)),
                None => self.merges.encode(word, ids),
            }
        });
        scratch.starts = starts;
    }

    /// The id of a word that is in the vocabulary, if the merges are ignored then.
    fn whole_word(&self, bytes: &[u8]) -> Option<u32> {
        if !self.ignore_merges {
            return None;
        }
        let word: CompactString = bytes
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

/// Cut a text into parts of about `num_bytes` each. `last_cut` gives the last place after some byte where a text may be
/// cut.
pub fn cut_into_parts(text: &str, num_bytes: usize, last_cut: impl Fn(&str, usize) -> Option<usize>) -> Vec<&str> {
    let (mut parts, mut start, mut tried, mut stop) = (Vec::new(), 0, 0, num_bytes);
    while stop < text.len() {
        let end = text.floor_char_boundary(stop);
        if let Some(cut) = last_cut(&text[start..end], tried) {
            parts.push(&text[start..start + cut]);
            start += cut;
            stop = start + num_bytes;
            tried = 0;
        } else {
            tried = end - start;
            stop += num_bytes;
        }
    }
    parts.push(&text[start..]);
    parts
}
