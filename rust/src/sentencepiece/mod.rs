//! BPE of characters with byte fallback, as `SentencePiece` makes it (Llama 2, Mistral 7B, Gemma): exactly the ids of the
//! `tokenizers` crate, many times faster.
//!
//! These tokenizers have no words: merges apply to a whole text, in which a blank `▁` stands for each space. A
//! character outside the vocabulary becomes the tokens of its bytes (`<0x0A>`). But there are many places that no
//! merge can ever cross (`joins` says why), and a text is cut there into parts that are like words: their tokens come
//! from the cache of words, or from merging. Spaces are never replaced: a space is only another spelling of the blank.
//!
//! A part of a document that does not begin it is encoded as a continuation, because a blank may be put before a text.

mod added;
mod joins;
mod spec;

use crate::bpe::hash::WordMap;
use crate::bpe::merge::Merges;
use crate::bpe::{AddedToken, File, Id, Scratch, Vocab};
use added::{Guard, Matcher, Part};
use joins::Joins;
use spec::{Prefix, Spec, Steps};

/// An encoder that threads share. Each thread keeps mutable data in its own `Scratch`.
pub struct SentencePiece {
    steps: Steps,
    merges: Merges,
    /// The id of each character beyond ASCII that is a token.
    characters: WordMap<char, u32>,
    joins: Joins,
    added: Matcher,
    normalized_added: Matcher,
    guard: Guard,
    added_ids: WordMap<String, u32>,
    vocab: Vocab,
}

impl SentencePiece {
    /// Make an encoder from the parts of a tokenizer.json.
    ///
    /// # Errors
    /// The reason why another encoder must be used.
    pub fn new(file: File<'_>) -> Result<Self, String> {
        let spec = Spec::read(file)?;
        let steps = spec.steps;
        let (normalized, as_they_are): (Vec<AddedToken>, Vec<AddedToken>) =
            spec.added_tokens.iter().cloned().partition(|token| token.normalized);
        let prefixes = steps.prefix == Prefix::Normalizer;
        let renews = matches!(steps.prefix, Prefix::Normalizer | Prefix::Always);
        Ok(Self {
            steps,
            merges: Merges::new(&spec.byte_ids, &spec.merges),
            characters: spec.characters,
            joins: Joins::new(spec.joins.into_iter(), steps.blank, steps.splits),
            added: Matcher::of_text(&as_they_are)?,
            normalized_added: if steps.normalizes {
                Matcher::of_normalized_text(&normalized, steps.blank, prefixes)?
            } else {
                Matcher::of_text(&normalized)?
            },
            guard: Guard::new(&spec.added_tokens, steps.blank, prefixes, renews),
            added_ids: spec
                .added_tokens
                .into_iter()
                .map(|token| (token.content, token.id))
                .collect(),
            vocab: spec.vocab,
        })
    }

    /// The vocabulary size: every id is below it.
    pub fn vocab_size(&self) -> u32 {
        let ids = self.vocab.values().chain(self.added_ids.values());
        ids.max().map_or(0, |max| max.saturating_add(1))
    }

    /// The number of tokens, which is less than `vocab_size` if some ids are not in use.
    pub fn num_tokens(&self) -> usize {
        let new = self
            .added_ids
            .keys()
            .filter(|token| !self.vocab.contains_key(token.as_str()));
        self.vocab.len() + new.count()
    }

    /// The id of a token, spelled as in the vocabulary, or None.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.added_ids.get(token).or_else(|| self.vocab.get(token)).copied()
    }

    /// From now on, encode a text that spells a special token as ordinary text, as `encode_special_tokens` does in
    /// `tokenizers`.
    pub fn split_special(&mut self) {
        self.added.skip_special();
        self.normalized_added.skip_special();
    }

    /// Append the ids of a text. `T` must hold every id of the vocabulary. `begins` says that the text begins a document
    /// and does not continue one that was cut at `last_cut`.
    pub fn encode<T: Id>(&self, text: &str, begins: bool, scratch: &mut Scratch<T>, ids: &mut Vec<T>) {
        if text.is_empty() {
            return;
        }
        self.added.parts(text, false, |part| match part {
            Part::Token(id) => ids.push(T::of(id)),
            Part::Text { range, .. } => {
                let place = Place {
                    continues: !begins && range.start == 0,
                    begins: begins && range.start == 0,
                };
                self.encode_between(&text[range], place, scratch, ids);
            }
        });
    }

    /// Append the ids of a text between added tokens that are not normalized.
    fn encode_between<T: Id>(&self, text: &str, place: Place, scratch: &mut Scratch<T>, ids: &mut Vec<T>) {
        let prefixed = self.steps.prefix == Prefix::Normalizer && !place.continues;
        self.normalized_added.parts(text, prefixed, |part| match part {
            Part::Token(id) => ids.push(T::of(id)),
            Part::Text { range, prefixed } => {
                let is_first = range.start == 0;
                let text = &text[range];
                let wants = match self.steps.prefix {
                    Prefix::Always => !(place.continues && is_first),
                    Prefix::First => place.begins && is_first,
                    Prefix::Never | Prefix::Normalizer => false,
                };
                let has_blank = text.starts_with([' ', self.steps.blank]);
                self.encode_text(text, prefixed || wants && !has_blank, scratch, ids);
            }
        });
    }

    /// Append the ids of a text without added tokens, after a blank if it is `prefixed`.
    fn encode_text<T: Id>(&self, mut text: &str, prefixed: bool, scratch: &mut Scratch<T>, ids: &mut Vec<T>) {
        if prefixed {
            let end = self.joins.first_end(text);
            let first = format!(" {}", &text[..end]);
            self.encode_parts(&first, scratch, ids);
            text = &text[end..];
        }
        self.encode_parts(text, scratch, ids);
    }

    fn encode_parts<T: Id>(&self, text: &str, scratch: &mut Scratch<T>, ids: &mut Vec<T>) {
        if text.is_empty() {
            return;
        }
        let mut starts = std::mem::take(&mut scratch.starts);
        self.joins.find_starts(text, &mut starts);
        scratch.encode_words(text, &starts, ids, |range, ids| self.merge(&text[range], ids));
        scratch.starts = starts;
    }

    /// Append the tokens of a part of a text that no merge leaves.
    fn merge<T: Id>(&self, part: &str, ids: &mut Vec<T>) {
        if part.is_ascii() {
            return self.merges.encode(part.as_bytes(), ids);
        }
        let mut symbols = Vec::with_capacity(part.len());
        for character in part.chars() {
            if let Some(&id) = self.characters.get(&character) {
                symbols.push(id);
            } else {
                let mut bytes = [0; 4];
                let bytes = character.encode_utf8(&mut bytes).bytes();
                symbols.extend(bytes.map(|byte| self.merges.byte_id(byte)));
            }
        }
        self.merges.merge(&symbols, ids);
    }

    /// The last place in `text` after byte `from` where it may be cut: the ids of the two parts together are the ids of
    /// the whole, whatever text surrounds it, if the second is encoded as a continuation. The first never ends with white
    /// space.
    pub fn last_cut(&self, text: &str, from: usize) -> Option<usize> {
        let mut characters = text.char_indices().rev();
        let (mut at, mut behind) = characters.next()?;
        for (before_at, before) in characters {
            if at <= from {
                return None;
            }
            if !self.joins.can_join(before, behind) && self.guard.allows(before, behind) {
                return Some(at);
            }
            (at, behind) = (before_at, before);
        }
        None
    }
}

/// Where a text between added tokens is in its document.
#[derive(Clone, Copy)]
struct Place {
    /// It is the rest of a text that was cut.
    continues: bool,
    /// It is at the start of the document.
    begins: bool,
}

#[cfg(test)]
mod tests;
