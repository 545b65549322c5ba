//! Normalize text to NFC, with the tables of the `tokenizers` crate. Text that is NFC already is not copied.

use std::borrow::Cow;

use serde_json::Value;
use unicode_normalization_alignments::char::canonical_combining_class;
use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// All characters below this one are unchanged by NFC, whatever surrounds them.
const FIRST_OPEN: char = '\u{300}';

/// What happens to text before it is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalizer {
    Nothing,
    Nfc,
}

impl Normalizer {
    /// Read the normalizer of a tokenizer.json. The error says what is not supported.
    pub fn read(value: Option<&Value>) -> Result<Self, String> {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return Ok(Self::Nothing);
        };
        match value["type"].as_str() {
            Some("NFC") => Ok(Self::Nfc),
            Some("Sequence") => {
                let parts = value["normalizers"].as_array().ok_or("its normalizer has no steps")?;
                let parts: Result<Vec<_>, _> = parts.iter().map(|part| Self::read(Some(part))).collect();
                Ok(if parts?.contains(&Self::Nfc) {
                    Self::Nfc
                } else {
                    Self::Nothing
                })
            }
            other => Err(format!("its normalizer is {}", other.unwrap_or("without a type"))),
        }
    }

    /// The normalized text.
    pub fn apply(self, text: &str) -> Cow<'_, str> {
        if self == Self::Nothing || is_below(text) || is_nfc_quick(text.chars()) == IsNormalized::Yes {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.nfc().map(|(character, _)| character).collect())
    }

    /// Whether the character stays as it is, whatever surrounds it, except that a mark may follow and join it.
    pub fn keeps(self, character: char) -> bool {
        self == Self::Nothing
            || character < FIRST_OPEN
            || canonical_combining_class(character) == 0
                && is_nfc_quick(std::iter::once(character)) == IsNormalized::Yes
    }
}

/// Whether all characters are below `FIRST_OPEN`.
fn is_below(text: &str) -> bool {
    const FIRST_BYTE: u8 = 0xCC;
    text.as_bytes()
        .chunks(1 << 10)
        .all(|part| part.iter().fold(0, |most, &byte| most.max(byte)) < FIRST_BYTE)
}
