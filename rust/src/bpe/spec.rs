//! Which tokenizer.json is a byte-level BPE with the GPT-2 pattern and nothing else, and what it says.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

/// The parts of tokenizer.json that decide the ids.
#[derive(Deserialize)]
struct File {
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<PreTokenizer>,
    post_processor: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the file has them")]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
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
struct Model {
    r#type: Option<String>,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

/// What the encoder needs.
pub struct Spec {
    /// Id of each byte.
    pub byte_ids: [u32; 256],
    /// (left, right, merged) in order of rank.
    pub merges: Vec<(u32, u32, u32)>,
    /// Tokens that are found in the text before anything else, with their ids.
    pub added_tokens: Vec<(String, u32)>,
}

impl Spec {
    /// None when the tokenizer is of any other kind: the `tokenizers` crate encodes for it then.
    pub fn read(tokenizer_json: &str) -> Option<Self> {
        let file: File = serde_json::from_str(tokenizer_json).ok()?;
        if !(file.is_plain() && file.model.is_plain()) {
            return None;
        }
        let vocab = &file.model.vocab;
        let mut byte_ids = [0; 256];
        for (slot, character) in byte_ids.iter_mut().zip(byte_characters()) {
            *slot = *vocab.get(character.encode_utf8(&mut [0; 4]) as &str)?;
        }
        if !added_ids_stand(&file.added_tokens, vocab) {
            return None;
        }
        let merges: Option<Vec<_>> = file.model.merges.iter().map(|merge| merge.ids(vocab)).collect();
        Some(Self {
            byte_ids,
            merges: merges?,
            added_tokens: file
                .added_tokens
                .into_iter()
                .map(|token| (token.content, token.id))
                .collect(),
        })
    }
}

/// Whether the library gives the added tokens the ids that the file says: those of the vocabulary, or the next ones.
fn added_ids_stand(added_tokens: &[AddedToken], vocab: &HashMap<String, u32>) -> bool {
    let mut next = vocab.len() as u32;
    added_tokens.iter().all(|token| {
        let expected = vocab.get(&token.content).copied().unwrap_or_else(|| {
            next += 1;
            next - 1
        });
        token.id == expected
    })
}

impl File {
    fn is_plain(&self) -> bool {
        let pattern = self
            .pre_tokenizer
            .as_ref()
            .is_some_and(|found| found.r#type == "ByteLevel" && !found.add_prefix_space && found.use_regex);
        let ends_unchanged = self
            .post_processor
            .as_ref()
            .is_none_or(|found| matches!(found["type"].as_str(), Some("ByteLevel" | "TemplateProcessing")));
        let added_alike = self.added_tokens.iter().all(|token| {
            let bare = !(token.single_word || token.lstrip || token.rstrip || token.content.is_empty());
            bare && token.normalized == self.added_tokens[0].normalized
        });
        self.normalizer.is_none() && pattern && ends_unchanged && added_alike
    }
}

impl Model {
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

impl Merge {
    fn ids(&self, vocab: &HashMap<String, u32>) -> Option<(u32, u32, u32)> {
        let (left, right) = match self {
            Self::Pair(left, right) => (left.as_str(), right.as_str()),
            Self::Line(line) => line.split_once(' ')?,
        };
        Some((
            *vocab.get(left)?,
            *vocab.get(right)?,
            *vocab.get(&format!("{left}{right}"))?,
        ))
    }
}

/// The printable character that stands for each byte in a byte-level vocabulary (GPT-2, `encoder.py`, `bytes_to_unicode`).
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
