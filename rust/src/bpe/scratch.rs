//! What one thread changes while it encodes: its word cache, and the batch of words whose tokens are looked up together.

use std::ops::Range;

use super::LANES;
use super::cache::{Id, Key, WordCache};

/// Words of a batch. One mask of starts adds up to 64 words.
const BATCH_WORDS: usize = 128;

/// Scratch space and word cache of one thread. All its texts must be encoded by the same encoder.
pub struct Scratch<T: Id> {
    cache: WordCache<T>,
    words: Vec<Word>,
    /// Space for the masks of an encoder.
    pub(crate) starts: Vec<u64>,
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
            words: Vec::with_capacity(BATCH_WORDS),
            starts: Vec::new(),
        }
    }

    /// Append the tokens of a text that is not empty. Bit i of entry c of `starts` tells that a word begins at byte
    /// 64 c + i; the first word always begins at byte 0. `merge` appends the tokens of the word in
    /// a range of the text, which the cache does not have.
    pub(crate) fn encode_words(
        &mut self,
        text: &str,
        starts: &[u64],
        ids: &mut Vec<T>,
        merge: impl Fn(Range<usize>, &mut Vec<T>),
    ) {
        let mut start = 0;
        for (index, &mask) in starts.iter().enumerate() {
            // A start ends the word before it, and no word is before the first.
            let mut mask = if index == 0 { mask & !1 } else { mask };
            while mask != 0 {
                let end = index * LANES + mask.trailing_zeros() as usize;
                mask &= mask - 1;
                self.add_word(text, start, end);
                start = end;
            }
            if self.words.len() > BATCH_WORDS - LANES {
                self.emit(text, ids, &merge);
            }
        }
        self.add_word(text, start, text.len());
        self.emit(text, ids, &merge);
    }

    #[inline]
    fn add_word(&mut self, text: &str, start: usize, end: usize) {
        let key = Key::new(text.as_bytes(), start, end - start);
        let line = self.cache.line(key);
        self.cache.prefetch(line);
        self.words.push(Word { start, end, key, line });
    }

    /// Append the tokens of the words in the batch.
    fn emit(&mut self, text: &str, ids: &mut Vec<T>, merge: &impl Fn(Range<usize>, &mut Vec<T>)) {
        let words = std::mem::take(&mut self.words);
        for word in &words {
            if let Some(inline) = self.cache.get(word.key, word.line) {
                push_inline(ids, inline);
            } else {
                self.emit_unknown(text, *word, ids, merge);
            }
        }
        self.words = words;
        self.words.clear();
    }

    #[cold]
    fn emit_unknown(&mut self, text: &str, word: Word, ids: &mut Vec<T>, merge: &impl Fn(Range<usize>, &mut Vec<T>)) {
        // A word may end inside a character.
        let bytes = &text.as_bytes()[word.start..word.end];
        if let Some(known) = self.cache.get_long(bytes) {
            ids.extend_from_slice(known);
            return;
        }
        let start = ids.len();
        merge(word.start..word.end, ids);
        if word.key.is_long() || !self.cache.insert(word.key, word.line, &ids[start..]) {
            self.cache.insert_long(bytes, &ids[start..]);
        }
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
