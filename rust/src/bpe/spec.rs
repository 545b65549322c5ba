//! Recognize a byte-level BPE in a tokenizer.json.

use super::file::{AddedToken, File, Vocab};
use super::normalize::Normalizer;
use super::pattern::{Splitter, Steps};

/// The contents of a tokenizer.json that the encoder needs.
pub struct Spec {
    /// Id of each byte.
    pub byte_ids: [u32; 256],
    /// The ids (left, right, merged) in order of rank.
    pub merges: Vec<(u32, u32, u32)>,
    /// Whether a word that is in the vocabulary is one token, whatever the merges say.
    pub ignore_merges: bool,
    /// Tokens that are matched in the text before anything else.
    pub added_tokens: Vec<AddedToken>,
    /// Ids of the model's vocabulary, which may include added tokens.
    pub vocab: Vocab,
    pub normalizer: Normalizer,
    pub splitter: Splitter,
}

impl Spec {
    /// Read a tokenizer.json. The error says why it is not a byte-level BPE that this encoder knows; then the `tokenizers`
    /// crate must encode.
    pub fn read(file: File<'_>) -> Result<Self, String> {
        file.check()?;
        check_added_tokens(&file.added_tokens)?;
        let model = &file.model;
        if model.byte_fallback || model.unk_token.is_some() {
            return Err("its model has tokens for unknown characters".into());
        }
        let normalizer = Normalizer::read(file.normalizer.as_ref())?;
        let pre_tokenizer = file.pre_tokenizer.as_ref().ok_or("it has no pre_tokenizer")?;
        let splitter = Splitter::new(Steps::read(pre_tokenizer, &byte_characters())?)?;
        let mut byte_ids = [0; 256];
        for (slot, character) in byte_ids.iter_mut().zip(byte_characters()) {
            let id = model.vocab.get(character.encode_utf8(&mut [0; 4]) as &str);
            *slot = *id.ok_or("its vocabulary does not have every byte")?;
        }
        Ok(Self {
            byte_ids,
            merges: model.merge_ids()?,
            ignore_merges: model.ignore_merges,
            added_tokens: file.added_tokens,
            vocab: file.model.vocab,
            normalizer,
            splitter,
        })
    }
}

/// Tokens of whole words are not supported, nor white space that belongs to two tokens.
fn check_added_tokens(tokens: &[AddedToken]) -> Result<(), String> {
    if let Some(token) = tokens.iter().find(|token| token.single_word) {
        return Err(format!(
            "its added token `{}` matches whole words only",
            token.content.escape_debug()
        ));
    }
    let strips = tokens.iter().any(|token| token.lstrip || token.rstrip);
    let is_space = |edge: Option<char>| edge.is_some_and(char::is_whitespace);
    let spaced =
        |token: &AddedToken| is_space(token.content.chars().next()) || is_space(token.content.chars().next_back());
    if strips && tokens.iter().any(spaced) {
        return Err("some of its added tokens take the white space around them, others begin with it".into());
    }
    Ok(())
}

/// The printable character that stands for each byte in a byte-level vocabulary (GPT-2, `encoder.py`,
/// `bytes_to_unicode`).
pub fn byte_characters() -> [char; 256] {
    let mut shifted = 256;
    std::array::from_fn(|byte| {
        let byte = byte as u32;
        let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if printable {
            byte
        } else {
            shifted += 1;
            shifted - 1
        };
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    })
}
