//! Learn merges from the counts of words, with the trainer of the `tokenizers` crate.

use std::collections::BTreeSet;

use ahash::AHashMap;
use compact_str::CompactString;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use super::counts::Counts;
use crate::error::{Error, Result};

/// Learn a tokenizer and return its tokenizer.json. See `Training::finish`.
pub fn learn(counts: Counts, vocab_size: usize, end_of_text: &str, pre_tokenizer: &str) -> Result<String> {
    let invalid = |error: tokenizers::Error| Error::Tokenizer(error.to_string());
    let pre_tokenizer: PreTokenizerWrapper =
        serde_json::from_str(pre_tokenizer).map_err(|error| Error::Tokenizer(error.to_string()))?;
    let special = AddedToken::from(end_of_text, true);
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .special_tokens(vec![special.clone()])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    let mut model = BPE::default();
    trainer.do_train(&spelled(counts), &mut model).map_err(invalid)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer
        .with_pre_tokenizer(Some(pre_tokenizer))
        .with_decoder(Some(ByteLevel::default()));
    tokenizer.add_special_tokens([special]).map_err(invalid)?;
    tokenizer.to_string(false).map_err(invalid)
}

/// The words in the characters that stand for their bytes. The trainer counts pairs in 32 bits, so the counts of a very
/// large text are divided.
fn spelled(counts: Counts) -> AHashMap<CompactString, u64> {
    let characters = byte_characters();
    let words: Vec<_> = counts.into_words().collect();
    let num_pairs: u64 = words.iter().map(|(word, count)| word.len() as u64 * count).sum();
    let divisor = num_pairs / i32::MAX as u64 + 1;
    let spell = |word: &CompactString| word.bytes().map(|byte| characters[usize::from(byte)]).collect();
    words
        .iter()
        .map(|(word, count)| (spell(word), count.div_ceil(divisor)))
        .collect()
}

/// The character that stands for each byte: itself if it is printable, or else the next one from U+0100 on.
fn byte_characters() -> Vec<char> {
    let alphabet: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
    let mut others = alphabet.range('\u{100}'..);
    let mut character = |byte: u8| {
        let itself = char::from(byte);
        let mut other = || others.next().copied().unwrap_or(itself);
        if alphabet.contains(&itself) { itself } else { other() }
    };
    (0..=255).map(&mut character).collect()
}
