//! The parts of a tokenizer.json that every BPE encoder needs: added tokens, vocabulary, merges.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use compact_str::CompactString;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::hash::WordMap;
use super::long::INSIDE;
use crate::beside::both;

/// Id of every token of the vocabulary. Nearly all tokens are short enough to be kept without an allocation.
pub type Vocab = WordMap<CompactString, u32>;

/// The parts of a tokenizer.json that determine the ids.
#[derive(Deserialize)]
pub struct File<'a> {
    truncation: Option<Value>,
    padding: Option<Value>,
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    pub normalizer: Option<Value>,
    pub pre_tokenizer: Option<Value>,
    pub post_processor: Option<Value>,
    #[serde(borrow)]
    pub model: Model<'a>,
}

/// A token that is matched in the text before the model sees it.
#[derive(Debug, Clone, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the file has these fields")]
pub struct AddedToken {
    pub id: u32,
    pub content: String,
    pub single_word: bool,
    /// Whether white space on the left belongs to the token.
    pub lstrip: bool,
    /// Whether white space on the right belongs to the token.
    pub rstrip: bool,
    /// Whether it is matched in the normalized text, and not in the text itself.
    pub normalized: bool,
    #[serde(default)]
    pub special: bool,
}

/// The model of a tokenizer.json, read as a BPE.
#[derive(Deserialize)]
pub struct Model<'a> {
    r#type: Option<String>,
    dropout: Option<f32>,
    pub unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    pub byte_fallback: bool,
    /// Whether a word that is in the vocabulary is one token, whatever the merges say.
    #[serde(default)]
    pub ignore_merges: bool,
    pub vocab: Vocab,
    #[serde(borrow)]
    merges: Vec<Merge<'a>>,
}

/// A pair of tokens: `["a", "b"]`, or `"a b"` in older files.
struct Merge<'a>(Cow<'a, str>, Cow<'a, str>);

/// Text that is borrowed from the file unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct MergeVisitor;

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergeVisitor)
    }
}

impl<'de> Visitor<'de> for MergeVisitor {
    type Value = Merge<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("two tokens")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, line: &'de str) -> Result<Self::Value, E> {
        let (left, right) = line.split_once(' ').ok_or_else(|| E::custom("not a pair"))?;
        Ok(Merge(left.into(), right.into()))
    }

    fn visit_str<E: serde::de::Error>(self, line: &str) -> Result<Self::Value, E> {
        let (left, right) = line.split_once(' ').ok_or_else(|| E::custom("not a pair"))?;
        Ok(Merge(left.to_owned().into(), right.to_owned().into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tokens: A) -> Result<Self::Value, A::Error> {
        let mut next = || {
            tokens
                .next_element::<Text<'de>>()?
                .ok_or_else(|| A::Error::custom("not a pair"))
        };
        let (Text(left), Text(right)) = (next()?, next()?);
        Ok(Merge(left, right))
    }
}

impl<'a> File<'a> {
    /// Read a tokenizer.json.
    ///
    /// # Errors
    /// The reason why it is not that of a BPE.
    pub fn read(tokenizer_json: &'a str) -> Result<Self, String> {
        serde_json::from_str(tokenizer_json).map_err(|_| "its model is not a BPE with merges".to_owned())
    }

    /// Whether the file asks for truncation or padding, which this encoder never does.
    pub fn has_limits(&self) -> bool {
        self.truncation.is_some() || self.padding.is_some()
    }

    /// Check everything that is the same for all kinds of BPE.
    ///
    /// # Errors
    /// What is not supported.
    pub fn check(&self) -> Result<(), String> {
        self.model.check()?;
        if !self.post_processor.as_ref().is_none_or(adds_only_special_tokens) {
            return Err("its post_processor is of an unknown kind".into());
        }
        if self.model.vocab.values().any(|&id| id >= INSIDE) {
            return Err(format!("an id of its vocabulary is {INSIDE} or more"));
        }
        self.check_added_tokens()
    }

    /// The library must give the added tokens the ids in the file: their ids in the vocabulary, or the next free ones.
    fn check_added_tokens(&self) -> Result<(), String> {
        let mut next = self.model.vocab.len() as u32;
        let mut seen = HashSet::new();
        for AddedToken { id, content, .. } in &self.added_tokens {
            let known = self.model.vocab.get(content.as_str()).copied();
            let expected = known.unwrap_or(next);
            next += u32::from(known.is_none());
            if *id != expected {
                return Err(format!(
                    "the id of its added token `{}` is not the next one",
                    content.escape_debug()
                ));
            }
            if content.is_empty() || !seen.insert(content) {
                return Err(format!(
                    "its added token `{}` is empty or repeated",
                    content.escape_debug()
                ));
            }
        }
        Ok(())
    }
}

/// Whether a post-processor leaves ids alone if no special tokens are asked for.
fn adds_only_special_tokens(step: &Value) -> bool {
    match step["type"].as_str() {
        Some("ByteLevel" | "TemplateProcessing" | "RobertaProcessing" | "BertProcessing") => true,
        Some("Sequence") => step["processors"]
            .as_array()
            .is_some_and(|steps| steps.iter().all(adds_only_special_tokens)),
        _ => false,
    }
}

impl Model<'_> {
    fn check(&self) -> Result<(), String> {
        let empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
        if self.r#type.as_deref().is_some_and(|name| name != "BPE") {
            return Err("its model is not a BPE".into());
        }
        if self.dropout.is_some_and(|share| share != 0.0) {
            return Err("its model drops merges at random".into());
        }
        if !(empty(&self.continuing_subword_prefix) && empty(&self.end_of_word_suffix)) {
            return Err("its model marks the parts of words".into());
        }
        Ok(())
    }

    /// The ids (left, right, merged) in order of rank.
    ///
    /// # Errors
    /// The token that is not in the vocabulary.
    pub fn merge_ids(&self) -> Result<Vec<(u32, u32, u32)>, String> {
        let mut tokens = vec![""; 2 * self.vocab.len()];
        for (token, &id) in &self.vocab {
            if let Some(place) = tokens.get_mut(id as usize) {
                *place = token;
            }
        }
        let (begin, end) = self.merges.split_at(self.merges.len() / 2);
        let (begin, end) = both(|| self.ids_of(begin, &tokens), || self.ids_of(end, &tokens));
        Ok([begin?, end?].concat())
    }

    /// The ids of some merges, given the token of every id.
    fn ids_of(&self, merges: &[Merge<'_>], tokens: &[&str]) -> Result<Vec<(u32, u32, u32)>, String> {
        let id = |token: &str| {
            let id = self.vocab.get(token).copied();
            id.ok_or_else(|| format!("its merges name the unknown token `{}`", token.escape_debug()))
        };
        // Most merges make the same token as the one before them, or the next one, which is faster to check than to
        // look up.
        let (mut whole, mut last) = (String::new(), 0);
        let mut ids = |Merge(left, right): &Merge<'_>| {
            whole.clear();
            whole.push_str(left);
            whole.push_str(right);
            let usual = [last, last + 1]
                .into_iter()
                .find(|&id| tokens.get(id as usize) == Some(&whole.as_str()));
            last = match usual.filter(|_| !whole.is_empty()) {
                Some(id) => id,
                None => id(&whole)?,
            };
            Ok((id(left)?, id(right)?, last))
        };
        merges.iter().map(&mut ids).collect()
    }
}

/// The same JSON without white space between its parts.
pub fn compact(json: &str) -> String {
    let white_space = [' ', '\t', '\n', '\r'];
    let (mut kept, mut rest) = (String::with_capacity(json.len()), json);
    while let Some(start) = rest.find('"') {
        kept.extend(rest[..start].split(white_space));
        let end = start + end_of_string(&rest[start..]);
        kept.push_str(&rest[start..end]);
        rest = &rest[end..];
    }
    kept.extend(rest.split(white_space));
    kept
}

/// The length of the JSON string, quotes included, with which `json` begins.
fn end_of_string(json: &str) -> usize {
    let mut end = 1;
    while let Some(quote) = json[end..].find('"') {
        let before = json[end..end + quote].bytes().rev();
        end += quote + 1;
        if before.take_while(|&byte| byte == b'\\').count() % 2 == 0 {
            return end;
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json, to_string, to_string_pretty};

    use super::compact;

    proptest! {
        #[test]
        fn a_compact_file_is_what_the_library_writes_without_white_space(
            texts in prop::collection::vec(r#"[a \\"\n\u{e9}]{0,6}"#, 0..8), number in any::<i64>(),
        ) {
            let values: Vec<Value> = texts.iter().map(|text| json!({text.as_str(): [text, number, null]})).collect();
            prop_assert_eq!(compact(&to_string_pretty(&values).unwrap()), to_string(&values).unwrap());
        }
    }
}
