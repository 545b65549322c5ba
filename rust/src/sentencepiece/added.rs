//! Added tokens (`</s>`, `<|user|>`): they are found in the text before the model sees it.
//!
//! The rules are those of the `tokenizers` crate. Tokens that are not `normalized` are searched in the text as it is;
//! the others, themselves normalized, in the normalized text between those. The leftmost match wins, then the longest.
//! A token that must be a whole word is skipped next to a word character. A token may take the white space beside it.

use std::collections::HashSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind};

use crate::bpe::AddedToken;

/// Normalizing replaces spaces, so each blank of a normalized token stands for two characters of a text. This is the
/// largest number of blanks in such tokens.
const MAX_BLANKS: usize = 6;

/// A part of a text.
pub enum Part {
    /// Text without an added token. `prefixed` tells that the prefix of the text belongs to it.
    Text { range: Range<usize>, prefixed: bool },
    /// An added token with this id.
    Token(u32),
}

/// Finds some of the added tokens.
pub struct Matcher {
    automaton: Option<AhoCorasick>,
    /// The token of each pattern of the automaton.
    of_pattern: Vec<AddedToken>,
    /// The patterns that follow the prefix of a text if its first character is a blank, the longest first.
    after_prefix: Vec<(String, AddedToken)>,
    /// Whether a space in the text is a blank, which is no white space.
    has_blanks: bool,
    skips_special: bool,
}

impl Matcher {
    /// Find these tokens in a text as it is.
    ///
    /// # Errors
    /// When the tables would be too large.
    pub fn of_text(tokens: &[AddedToken]) -> Result<Self, String> {
        let patterns = tokens.iter().map(|token| (token.content.clone(), token.clone()));
        Self::new(patterns.collect(), Vec::new(), false)
    }

    /// Find these tokens in a text that is normalized as follows: spaces become `blank`, and with `prefixes` a blank
    /// may precede the text. The text itself has its spaces and no prefix.
    ///
    /// # Errors
    /// When the tables would be too large.
    pub fn of_normalized_text(tokens: &[AddedToken], blank: char, prefixes: bool) -> Result<Self, String> {
        let (mut patterns, mut after_prefix) = (Vec::new(), Vec::new());
        for token in tokens {
            let rest = spellings(&token.content, blank)?;
            if prefixes {
                patterns.extend([' ', blank].iter().flat_map(|first| {
                    let whole = rest.iter().map(move |rest| format!("{first}{rest}"));
                    whole.map(|spelling| (spelling, token.clone()))
                }));
                after_prefix.extend(rest.into_iter().map(|spelling| (spelling, token.clone())));
            } else {
                patterns.extend(rest.into_iter().map(|spelling| (spelling, token.clone())));
            }
        }
        after_prefix.sort_by_key(|(spelling, _)| std::cmp::Reverse(spelling.chars().count()));
        Self::new(patterns, after_prefix, true)
    }

    fn new(
        patterns: Vec<(String, AddedToken)>,
        after_prefix: Vec<(String, AddedToken)>,
        has_blanks: bool,
    ) -> Result<Self, String> {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns.iter().map(|(spelling, _)| spelling))
            .map_err(|error| format!("its added tokens cannot be searched: {error}"))?;
        Ok(Self {
            automaton: (!patterns.is_empty()).then_some(automaton),
            of_pattern: patterns.into_iter().map(|(_, token)| token).collect(),
            after_prefix,
            has_blanks,
            skips_special: false,
        })
    }

    /// From now on, leave the special tokens in the text.
    pub fn skip_special(&mut self) {
        self.skips_special = true;
    }

    /// Pass on the parts of a text that is not empty, in order. `prefixed` tells that a blank precedes the text.
    pub fn parts(&self, text: &str, prefixed: bool, mut pass: impl FnMut(Part)) {
        let Some(automaton) = &self.automaton else {
            return pass(Part::Text {
                range: 0..text.len(),
                prefixed,
            });
        };
        let (mut done, mut prefixed) = (0, prefixed);
        let mut after_prefix = self.after_prefix.iter().filter(|_| prefixed);
        let first = after_prefix.find(|(spelling, _)| text.starts_with(spelling));
        let from = first.map_or(0, |(spelling, _)| spelling.len());
        if let Some((_, token)) = first
            && self.stands(token, "", &text[from..])
        {
            prefixed = false;
            pass(Part::Token(token.id));
            done = from + self.spaces_to_take(token.rstrip, text[from..].chars());
        }
        for found in automaton.find_iter(Input::new(text).range(from..)) {
            let token = &self.of_pattern[found.pattern().as_usize()];
            let (before, behind) = (&text[..found.start()], &text[found.end()..]);
            if !self.stands(token, before, behind) {
                continue;
            }
            // White space that an earlier token took is not taken again.
            let start = found.start() - self.spaces_to_take(token.lstrip, before.chars().rev());
            let start = if token.lstrip { start.max(done) } else { start };
            if done < start || prefixed {
                pass(Part::Text {
                    range: done.min(start)..start,
                    prefixed,
                });
                prefixed = false;
            }
            pass(Part::Token(token.id));
            done = found.end() + self.spaces_to_take(token.rstrip, behind.chars());
        }
        if done < text.len() || prefixed {
            pass(Part::Text {
                range: done..text.len(),
                prefixed,
            });
        }
    }

    /// Whether a match between these texts is a token.
    fn stands(&self, token: &AddedToken, before: &str, behind: &str) -> bool {
        let is_word = !(before.chars().next_back().is_some_and(is_word) || behind.chars().next().is_some_and(is_word));
        !(self.skips_special && token.special) && (is_word || !token.single_word)
    }

    /// The bytes of white space that begin with these characters, if they are to be taken.
    fn spaces_to_take(&self, takes: bool, characters: impl Iterator<Item = char>) -> usize {
        let is_space = |character: &char| character.is_whitespace() && !(self.has_blanks && *character == ' ');
        let spaces = characters.take_while(is_space).filter(|_| takes);
        spaces.map(char::len_utf8).sum()
    }
}

/// The texts that normalizing makes equal to the normalized content.
fn spellings(content: &str, blank: char) -> Result<Vec<String>, String> {
    let is_blank = |character: char| character == ' ' || character == blank;
    if content.chars().filter(|&character| is_blank(character)).count() > MAX_BLANKS {
        return Err(format!(
            "its added token `{}` has more than {MAX_BLANKS} blanks",
            content.escape_debug()
        ));
    }
    let mut spellings = vec![String::new()];
    for character in content.chars() {
        let forms = if is_blank(character) && blank != ' ' {
            vec![' ', blank]
        } else {
            vec![character]
        };
        let longer = forms
            .iter()
            .flat_map(|form| spellings.iter().map(move |start| format!("{start}{form}")));
        spellings = longer.collect();
    }
    Ok(spellings)
}

fn is_word(character: char) -> bool {
    regex_syntax::try_is_word_character(character).unwrap_or(false)
}

/// Where a text may be cut without changing which added tokens are found in it.
pub struct Guard {
    /// Neighbors inside an added token. A place between them may be inside a match.
    neighbors: HashSet<(char, char)>,
    /// First and last characters of tokens whose surroundings matter.
    firsts: HashSet<char>,
    lasts: HashSet<char>,
    blank: char,
}

impl Guard {
    /// Guard these tokens. `renews` tells that the text after a token is prefixed again, so that it is not the
    /// continuation of a text.
    pub fn new(tokens: &[AddedToken], blank: char, prefixes: bool, renews: bool) -> Self {
        let mut guard = Self {
            neighbors: HashSet::new(),
            firsts: HashSet::new(),
            lasts: HashSet::new(),
            blank,
        };
        for token in tokens {
            let prefix = (token.normalized && prefixes).then_some(blank);
            let characters: Vec<_> = prefix
                .into_iter()
                .chain(token.content.chars())
                .map(|character| guard.usual(character))
                .collect();
            guard
                .neighbors
                .extend(characters.windows(2).map(|pair| (pair[0], pair[1])));
            let looks_around = token.single_word || token.lstrip || token.rstrip;
            let (first, last) = (characters.first(), characters.last());
            guard.firsts.extend(first.filter(|_| looks_around));
            guard.lasts.extend(last.filter(|_| looks_around || renews));
        }
        guard
    }

    /// A space and a blank may be the same, and are guarded alike.
    fn usual(&self, character: char) -> char {
        if character == ' ' { self.blank } else { character }
    }

    /// Whether the text may be cut between these characters: never after white space, which a token may have taken.
    pub fn allows(&self, before: char, behind: char) -> bool {
        let (left, right) = (self.usual(before), self.usual(behind));
        let near_token =
            self.neighbors.contains(&(left, right)) || self.firsts.contains(&right) || self.lasts.contains(&left);
        !(before.is_whitespace() || near_token)
    }
}
