//! Find added tokens (`<|endoftext|>`) in text: the leftmost match wins, then the longest.
//!
//! This is the rule of `encode(text, add_special_tokens=False)`, which applies to special tokens and others alike.

use std::collections::HashSet;

use aho_corasick::{AhoCorasick, MatchKind};

use super::file::AddedToken;
use crate::error::{Error, Result};

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    Text(&'a str),
    /// The id of an added token.
    Token(u32),
}

/// Finds some added tokens.
pub struct Added {
    automaton: AhoCorasick,
    tokens: Vec<AddedToken>,
    /// Whether special tokens are left in the text.
    skips_special: bool,
}

impl Added {
    /// Make a finder. None without tokens.
    ///
    /// # Errors
    /// When the tokens are too many.
    pub fn new(tokens: Vec<AddedToken>) -> Result<Option<Self>> {
        if tokens.is_empty() {
            return Ok(None);
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|token| &token.content))
            .map_err(|error| Error::Tokenizer(error.to_string()))?;
        Ok(Some(Self {
            automaton,
            tokens,
            skips_special: false,
        }))
    }

    /// From now on, leave special tokens in the text.
    pub fn skip_special(&mut self) {
        self.skips_special = true;
    }

    /// All tokens.
    pub fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// The characters of all tokens.
    pub fn characters(&self) -> HashSet<char> {
        self.tokens.iter().flat_map(|token| token.content.chars()).collect()
    }

    /// Call `found` with each part of a text, in order. No part is empty text.
    pub fn split<'a>(&self, text: &'a str, mut found: impl FnMut(Part<'a>)) {
        let mut done = 0;
        for matched in self.automaton.find_iter(text) {
            let token = &self.tokens[matched.pattern().as_usize()];
            if self.skips_special && token.special {
                continue;
            }
            let (mut start, mut stop) = (matched.start(), matched.end());
            if token.lstrip {
                start = done + text[done..start].trim_end().len();
            }
            if token.rstrip {
                stop = text.len() - text[stop..].trim_start().len();
            }
            if done < start {
                found(Part::Text(&text[done..start]));
            }
            found(Part::Token(token.id));
            done = stop;
        }
        if done < text.len() {
            found(Part::Text(&text[done..]));
        }
    }
}
