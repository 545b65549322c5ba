//! Cut text into words with regular expressions, and long text at places where a word ends.

use fancy_regex::Regex;

use crate::error::{Error, Result};
use crate::ingest::{BLOCK_BYTES, Cuts};

/// Most bytes of a word. A longer one (DNA, base64) is cut into words of this length: the time to learn from a word
/// grows with the square of its length, and a longer token is of no use.
const MAX_WORD_BYTES: usize = 256;

/// Cuts text into words.
pub struct Splitter(Vec<Regex>);

impl Splitter {
    /// Compile the expressions. Each cuts the words of the one before.
    ///
    /// # Errors
    /// When an expression is invalid.
    pub fn new(expressions: &[String]) -> Result<Self> {
        let compile = |text: &String| {
            Regex::new(text).map_err(|error| Error::Data(format!("`{text}` is not a regular expression: {error}")))
        };
        Ok(Self(expressions.iter().map(compile).collect::<Result<_>>()?))
    }

    /// Call `take` with each word of a text, in order. Together the words are the text.
    ///
    /// # Errors
    /// When an expression backtracks too long.
    pub fn for_each_word(&self, text: &str, take: &mut impl FnMut(&str)) -> Result<()> {
        if text.is_empty() {
            Ok(())
        } else {
            split(&self.0, text, take)
        }
    }
}

fn split(expressions: &[Regex], text: &str, take: &mut impl FnMut(&str)) -> Result<()> {
    let Some((first, rest)) = expressions.split_first() else {
        take_short(text, take);
        return Ok(());
    };
    let mut done = 0;
    for matched in first.find_iter(text) {
        let matched =
            matched.map_err(|error| Error::Data(format!("`{}` cannot cut the text: {error}", first.as_str())))?;
        if matched.start() > done {
            split(rest, &text[done..matched.start()], take)?;
        }
        if matched.end() > matched.start() {
            split(rest, matched.as_str(), take)?;
        }
        done = matched.end();
    }
    if done < text.len() {
        split(rest, &text[done..], take)?;
    }
    Ok(())
}

fn take_short(mut word: &str, take: &mut impl FnMut(&str)) {
    while word.len() > MAX_WORD_BYTES {
        let (part, rest) = word.split_at(word.floor_char_boundary(MAX_WORD_BYTES));
        take(part);
        word = rest;
    }
    take(word);
}

fn begins_word(text: &str) -> bool {
    text.chars().next().is_some_and(char::is_alphanumeric)
}

/// Places where every pattern in use ends a word: before a space that does not follow white space, and between a line
/// feed and a letter or number if no white space is before the line feed. Text without such a place is cut anywhere, after four blocks.
pub struct WordCuts;

impl Cuts for WordCuts {
    fn last_cut(&self, text: &str, from: usize) -> Option<usize> {
        let bytes = text.as_bytes();
        let is_cut = |&at: &usize| match (bytes[at - 1], bytes[at]) {
            (b'\n', _) => begins_word(&text[at..]) && !text[..at - 1].ends_with(char::is_whitespace),
            (_, b' ') => !text[..at].ends_with(char::is_whitespace),
            _ => false,
        };
        let found = (from + 1..text.len()).rev().find(is_cut);
        found.or_else(|| (text.len() >= 4 * BLOCK_BYTES).then(|| text.floor_char_boundary(text.len() - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATTERNS: [&str; 3] = [
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
            r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
    ];

    fn words(splitter: &Splitter, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        splitter
            .for_each_word(text, &mut |word| words.push(word.to_owned()))
            .expect("no backtracking");
        words
    }

    proptest! {
        #[test]
        fn no_word_continues_over_a_cut(text in "[ab'sT1é東\u{3000}/!. \\r\\n\\t]{0,60}", from in 0_usize..60) {
            for pattern in PATTERNS {
                let splitter = Splitter::new(&[pattern.to_owned()]).expect("valid");
                if let Some(cut) = WordCuts.last_cut(&text, from) {
                    prop_assert!(cut > from);
                    let both = [words(&splitter, &text[..cut]), words(&splitter, &text[cut..])].concat();
                    prop_assert_eq!(both, words(&splitter, &text), "{}", pattern);
                }
            }
        }
    }

    #[test]
    fn words_are_matches_and_the_text_between_them_and_never_long() {
        let splitter = Splitter::new(&["[a-z]+".to_owned(), "[xy]".to_owned()]).expect("valid");
        assert_eq!(words(&splitter, "12axb  cy"), ["12", "a", "x", "b", "  ", "c", "y"]);
        let long = "é".repeat(MAX_WORD_BYTES);
        let parts = words(&splitter, &long);
        assert_eq!(parts.concat(), long);
        assert!(parts.iter().all(|part| part.len() <= MAX_WORD_BYTES));
    }

    #[test]
    fn an_expression_that_backtracks_for_ever_is_an_error() {
        let splitter = Splitter::new(&["(a+)+(?=b)b".to_owned()]).expect("valid");
        let error = splitter
            .for_each_word(&"a".repeat(100), &mut |_| ())
            .expect_err("it takes 2^100 steps");
        assert!(error.to_string().contains("cannot cut the text"), "{error}");
    }
}
