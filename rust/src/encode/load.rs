//! Make an encoder from a tokenizer.json: choose what encodes, and refuse ids that cannot be used.

use serde::Deserialize;
use tokenizers::{ModelWrapper, Tokenizer};

use super::{Encoder, Kind};
use crate::beside::both;
use crate::bpe::{Bpe, File, Simd, compact};
use crate::error::{Error, Result};
use crate::fallback::Fallback;
use crate::library::guarded;
use crate::sentencepiece::SentencePiece;

/// More ids may be unused than this and than the tokens there are only by mistake: every id is a row of a model.
const MAX_UNUSED_IDS: usize = 1 << 10;

/// The part of a tokenizer.json that both kinds of encoders check.
#[derive(Default, Deserialize)]
struct Added {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

impl Added {
    /// Those of a file that has been read, because reading a large one again takes a tenth of the start-up.
    fn of(file: &File<'_>) -> Self {
        let tokens = file.added_tokens.iter().map(|token| AddedToken {
            id: token.id,
            content: token.content.clone(),
            special: token.special,
        });
        Self {
            added_tokens: tokens.collect(),
        }
    }

    fn read(tokenizer_json: &str) -> Result<Self> {
        serde_json::from_str(tokenizer_json).map_err(|error| Error::Tokenizer(error.to_string()))
    }
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

impl Encoder {
    /// Make an encoder from the text of a tokenizer.json. Dropout, which gives other ids each time, is switched off.
    ///
    /// # Errors
    /// When the `tokenizers` crate rejects the file, its ids cannot be used, or `TTTKIT_SIMD` names instructions that
    /// this processor lacks.
    pub fn new(tokenizer_json: &str) -> Result<Self> {
        let simd = Simd::choose()?;
        let unlimited = |tokenizer: &Tokenizer| tokenizer.to_string(false).map_err(refused);
        let (file, shortest) = both(|| File::read(tokenizer_json), || compact(tokenizer_json));
        let json = |has_limits| {
            if has_limits {
                unlimited(&any_tokenizer(tokenizer_json)?)
            } else {
                Ok(shortest)
            }
        };
        let has_limits = file.as_ref().is_ok_and(File::has_limits);
        let added = file.as_ref().map(Added::of).unwrap_or_default();
        let known = match file {
            Ok(file) if file.model.byte_fallback => {
                SentencePiece::new(file).map(|bpe| (bpe.vocab_size(), Kind::SentencePiece(Box::new(bpe))))
            }
            Ok(file) => Bpe::from_file(file, simd)?.map(|bpe| (bpe.vocab_size(), Kind::Bpe(Box::new(bpe)))),
            Err(reason) => Err(reason),
        };
        let reason = match known {
            Ok((vocab_size, kind)) => {
                return Self {
                    kind,
                    json: json(has_limits)?,
                    vocab_size,
                    special_tokens: Vec::new(),
                    dropout: None,
                    simd,
                }
                .checked(added);
            }
            Err(reason) => format!("the tokenizers library encodes because {reason}"),
        };
        let mut tokenizer = any_tokenizer(tokenizer_json)?;
        if let Some(dropout) = take_dropout(&mut tokenizer) {
            let encoder = Self::new(&unlimited(&tokenizer)?)?;
            return Ok(Self {
                dropout: Some(dropout),
                ..encoder
            });
        }
        Self {
            json: unlimited(&tokenizer)?,
            vocab_size: vocab_size_of(&tokenizer),
            kind: Kind::Any(Box::new(Fallback::new(&tokenizer)?), reason),
            special_tokens: Vec::new(),
            dropout: None,
            simd,
        }
        .checked(Added::read(tokenizer_json)?)
    }

    /// Check the ids and note the special tokens.
    fn checked(mut self, Added { added_tokens: added }: Added) -> Result<Self> {
        if let Some((token, id)) = added.iter().find_map(|token| {
            let id = self.token_id(&token.content)?;
            (id != token.id).then_some((token, id))
        }) {
            let (content, wanted) = (&token.content, token.id);
            return Err(Error::Tokenizer(format!(
                "the added token `{content}` has the id {wanted} in the file, but the next free id is {id}"
            )));
        }
        match &self.kind {
            Kind::Bpe(bpe) => check_gaps(self.vocab_size, bpe.num_tokens())?,
            Kind::SentencePiece(bpe) => check_gaps(self.vocab_size, bpe.num_tokens())?,
            // It was checked when it was read.
            Kind::Any(..) => {}
        }
        let special = added.into_iter().filter(|token| token.special);
        self.special_tokens = special.map(|token| (token.content, token.id)).collect();
        Ok(self)
    }
}

fn any_tokenizer(tokenizer_json: &str) -> Result<Tokenizer> {
    let mut tokenizer: Tokenizer = guarded(|| tokenizer_json.parse()).map_err(Error::Tokenizer)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(refused)?;
    // The crate takes time for every id up to the largest when it writes a tokenizer.json.
    check_gaps(vocab_size_of(&tokenizer), tokenizer.get_vocab_size(true))?;
    Ok(tokenizer)
}

fn vocab_size_of(tokenizer: &Tokenizer) -> u32 {
    let largest = tokenizer.get_vocab(true).into_values().max();
    largest.map_or(0, |largest| largest.saturating_add(1))
}

/// Refuse ids that leave more of the vocabulary unused than any tokenizer in use does.
fn check_gaps(vocab_size: u32, num_tokens: usize) -> Result<()> {
    if vocab_size as usize <= num_tokens + num_tokens.max(MAX_UNUSED_IDS) {
        return Ok(());
    }
    Err(Error::Tokenizer(format!(
        "its ids go up to {}, but it has only {num_tokens} tokens",
        vocab_size - 1
    )))
}

/// Switch off the dropout of a BPE and return it. None if there is none.
fn take_dropout(tokenizer: &mut Tokenizer) -> Option<f32> {
    let ModelWrapper::BPE(model) = tokenizer.get_model() else {
        return None;
    };
    let dropout = model.dropout.filter(|&share| share != 0.0)?;
    let mut model = model.clone();
    model.dropout = None;
    tokenizer.with_model(model);
    Some(dropout)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn refused(error: tokenizers::Error) -> Error {
    Error::Tokenizer(error.to_string())
}
