//! Read a tokenizer.json, if it is a byte-level BPE with the GPT-2 pattern and nothing else.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::hash::WordMap;
use super::long::INSIDE;

/// Id of every token of the vocabulary.
pub type Vocab = WordMap<Box<str>, u32>;

/// The parts of a tokenizer.json that determine the ids.
#[derive(Deserialize)]
struct File<'a> {
    truncation: Option<Value>,
    padding: Option<Value>,
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<PreTokenizer>,
    post_processor: Option<Value>,
    #[serde(borrow)]
    model: Model<'a>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the file has these fields")]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct PreTokenizer {
    r#type: String,
    add_prefix_space: bool,
    #[serde(default = "yes")]
    use_regex: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct Model<'a> {
    r#type: Option<String>,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: Vocab,
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

/// The contents of a tokenizer.json that the encoder needs.
pub struct Spec {
    /// Id of each byte.
    pub byte_ids: [u32; 256],
    /// The ids (left, right, merged) in order of rank.
    pub merges: Vec<(u32, u32, u32)>,
    /// Tokens that are matched in the text before anything else, with their ids.
    pub added_tokens: Vec<(String, u32)>,
    /// Which of these tokens are special.
    pub special: Vec<bool>,
    /// Ids of the model's vocabulary, which may include added tokens.
    pub vocab: Vocab,
    /// Whether the file asks for truncation or padding, which this encoder never does.
    pub has_limits: bool,
}

impl Spec {
    /// Read a tokenizer.json. None for any other kind of tokenizer, which the `tokenizers` crate must encode.
    pub fn read(tokenizer_json: &str) -> Option<Self> {
        let file: File<'_> = serde_json::from_str(tokenizer_json).ok()?;
        if !(file.is_plain() && file.model.is_plain()) {
            return None;
        }
        let vocab = &file.model.vocab;
        let mut byte_ids = [0; 256];
        for (slot, character) in byte_ids.iter_mut().zip(byte_characters()) {
            *slot = *vocab.get(character.encode_utf8(&mut [0; 4]) as &str)?;
        }
        let marked = vocab.values().any(|&id| id >= INSIDE);
        if marked || !added_ids_stand(&file.added_tokens, vocab) {
            return None;
        }
        let mut whole = String::new();
        let merges: Option<Vec<_>> = file
            .model
            .merges
            .iter()
            .map(|merge| merge.ids(vocab, &mut whole))
            .collect();
        Some(Self {
            byte_ids,
            merges: merges?,
            special: file.added_tokens.iter().map(|token| token.special).collect(),
            added_tokens: file
                .added_tokens
                .into_iter()
                .map(|token| (token.content, token.id))
                .collect(),
            vocab: file.model.vocab,
            has_limits: file.truncation.is_some() || file.padding.is_some(),
        })
    }
}

/// Whether the library would give the added tokens the ids in the file: their ids in the vocabulary, or the next free
/// ones.
fn added_ids_stand(added_tokens: &[AddedToken], vocab: &Vocab) -> bool {
    let mut next = vocab.len() as u32;
    added_tokens.iter().all(|token| {
        let expected = vocab.get(token.content.as_str()).copied().unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        token.id == expected
    })
}

impl File<'_> {
    fn is_plain(&self) -> bool {
        let pattern = self
            .pre_tokenizer
            .as_ref()
            .is_some_and(|step| step.r#type == "ByteLevel" && !step.add_prefix_space && step.use_regex);
        let ends_unchanged = self
            .post_processor
            .as_ref()
            .is_none_or(|step| matches!(step["type"].as_str(), Some("ByteLevel" | "TemplateProcessing")));
        let added_alike = self.added_tokens.iter().all(|token| {
            let bare = !(token.single_word || token.lstrip || token.rstrip || token.content.is_empty());
            bare && token.normalized == self.added_tokens[0].normalized
        });
        self.normalizer.is_none() && pattern && ends_unchanged && added_alike
    }
}

impl Model<'_> {
    fn is_plain(&self) -> bool {
        let empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
        self.r#type.as_deref().is_none_or(|name| name == "BPE")
            && self.dropout.is_none_or(|share| share == 0.0)
            && self.unk_token.is_none()
            && empty(&self.continuing_subword_prefix)
            && empty(&self.end_of_word_suffix)
            && !self.byte_fallback
            && !self.ignore_merges
    }
}

impl Merge<'_> {
    /// The ids of both tokens and of the merged token. `whole` is scratch space.
    fn ids(&self, vocab: &Vocab, whole: &mut String) -> Option<(u32, u32, u32)> {
        let Self(left, right) = self;
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        Some((
            *vocab.get(left.as_ref())?,
            *vocab.get(right.as_ref())?,
            *vocab.get(whole.as_str())?,
        ))
    }
}

/// The same JSON without white space between its parts.
pub fn compact(json: &str) -> String {
    let mut kept = Vec::with_capacity(json.len());
    let (mut inside, mut escaped) = (false, false);
    for byte in json.bytes() {
        if inside || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            kept.push(byte);
        }
        inside ^= byte == b'"' && !escaped;
        escaped = inside && byte == b'\\' && !escaped;
    }
    // Only ASCII was removed, so the rest is still UTF-8.
    String::from_utf8(kept).unwrap_or_else(|_| json.to_owned())
}

/// The printable character that stands for each byte in a byte-level vocabulary (GPT-2, `encoder.py`,
/// `bytes_to_unicode`).
fn byte_characters() -> impl Iterator<Item = char> {
    let mut shifted = 256;
    (0_u32..256).map(move |byte| {
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable {
            byte
        } else {
            shifted += 1;
            shifted - 1
        };
        char::from_u32(code).unwrap_or('\u{fffd}')
    })
}
