//! The classes of characters in the GPT-2 pattern: `\p{L}`, `\p{N}`, `\s`, and everything else.
//!
//! The tables come from `regex-syntax`, which the regular expressions of the `tokenizers` crate use too, so both follow
//! the same version of Unicode. Classifying a character is one table look-up. Equal blocks of 256 characters are stored
//! once.

use regex_syntax::hir::{Class as HirClass, HirKind};

use crate::error::{Error, Result};

/// The class of a character in the pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    Other,
    Letter,
    Number,
    Space,
}

const BLOCK: usize = 256;
const NUM_CODE_POINTS: usize = 0x11_0000;

/// The class of every character.
pub struct Classes {
    blocks: Vec<u16>,
    classes: Vec<Class>,
}

impl Classes {
    /// Build the tables, which takes a few milliseconds.
    ///
    /// # Errors
    /// When `regex-syntax` was built without Unicode tables.
    pub fn new() -> Result<Self> {
        let mut all = vec![Class::Other; NUM_CODE_POINTS];
        for (pattern, class) in [
            (r"\p{L}", Class::Letter),
            (r"\p{N}", Class::Number),
            (r"\s", Class::Space),
        ] {
            for (first, last) in ranges(pattern)? {
                all[first as usize..=last as usize].fill(class);
            }
        }
        let (mut blocks, mut classes) = (Vec::new(), Vec::<Class>::new());
        for block in all.chunks(BLOCK) {
            let known = classes.chunks(BLOCK).position(|other| other == block);
            blocks.push(known.unwrap_or(classes.len() / BLOCK) as u16);
            if known.is_none() {
                classes.extend_from_slice(block);
            }
        }
        Ok(Self { blocks, classes })
    }

    /// The class of a character.
    pub fn of_char(&self, character: char) -> Class {
        let code = character as usize;
        self.classes[usize::from(self.blocks[code / BLOCK]) * BLOCK + code % BLOCK]
    }
}

fn ranges(pattern: &str) -> Result<Vec<(char, char)>> {
    let parsed = regex_syntax::parse(pattern).map_err(|error| Error::Value(error.to_string()))?;
    match parsed.kind() {
        HirKind::Class(HirClass::Unicode(class)) => {
            Ok(class.iter().map(|range| (range.start(), range.end())).collect())
        }
        _ => Err(Error::Value(format!("{pattern} is not a class of characters"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_the_class_that_the_pattern_gives_it() {
        let classes = Classes::new().expect("tables");
        for character in '\0'..=char::MAX {
            let class = classes.of_char(character);
            // The standard library follows another version of Unicode and defines numbers differently, so compare
            // only what agrees.
            assert_eq!(class == Class::Space, character.is_whitespace(), "{character:?}");
            if character.is_ascii() {
                assert_eq!(class == Class::Letter, character.is_ascii_alphabetic());
                assert_eq!(class == Class::Number, character.is_ascii_digit());
            }
        }
    }
}
