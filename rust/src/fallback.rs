//! Tokenizers that only the `tokenizers` crate can encode.
//!
//! Where an expression backtracks longer than its limit, the crate takes the rest of the text as one piece and gives no
//! error. The same steps with the same expressions are run here, but such a text is an error.

use std::cell::RefCell;

use fancy_regex::Regex;
use serde_json::Value;
use tokenizers::normalizers::NormalizerWrapper;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::tokenizer::pattern::{Invert, Pattern};
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizedString, Offsets, PostProcessorWrapper, PreTokenizedString,
    SplitDelimiterBehavior, Tokenizer, TokenizerImpl,
};

use crate::bpe::Id;
use crate::error::{Error, Result};
use crate::library::guarded;

/// The result type of the crate.
type Called<T> = std::result::Result<T, tokenizers::Error>;

thread_local! {
    /// Why an expression failed on this thread. The crate drops the errors of normalizers, so they are kept here.
    static FAILURE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A tokenizer of the `tokenizers` crate whose expressions report that they backtracked too long.
pub struct Fallback(TokenizerImpl<ModelWrapper, Normalizer, PreTokenizer, PostProcessorWrapper, DecoderWrapper>);

impl Fallback {
    /// Take over everything that determines the ids.
    ///
    /// # Errors
    /// When an expression cannot be compiled.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let made = guarded(|| {
            let mut checked = TokenizerImpl::new(tokenizer.get_model().clone());
            checked
                .with_normalizer(tokenizer.get_normalizer().map(Normalizer::new).transpose()?)?
                .with_pre_tokenizer(tokenizer.get_pre_tokenizer().map(PreTokenizer::new).transpose()?)
                .with_post_processor(tokenizer.get_post_processor().cloned())
                .with_added_vocabulary(tokenizer.get_added_vocabulary().clone());
            Ok(checked)
        });
        made.map(Self).map_err(Error::Tokenizer)
    }

    /// The id of a token of the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    /// From now on, encode a text that spells a special token as ordinary text.
    pub fn split_special(&mut self) {
        self.0.set_encode_special_tokens(true);
    }

    /// Append the ids of a text. `T` must hold every id of the vocabulary.
    ///
    /// # Errors
    /// When the tokenizer rejects the text, or an expression backtracks too long.
    pub fn encode<T: Id>(&self, text: &str, ids: &mut Vec<T>) -> Result<()> {
        FAILURE.take();
        let encoding = guarded(|| self.0.encode_fast(text, false)).map_err(Error::Data)?;
        if let Some(reason) = FAILURE.take() {
            return Err(Error::Data(reason));
        }
        ids.extend(encoding.get_ids().iter().map(|&id| T::of(id)));
        Ok(())
    }
}

/// An expression of a tokenizer.json.
struct Expression {
    regex: Regex,
    source: String,
}

impl Expression {
    fn new(source: &str) -> Called<Self> {
        Ok(Self {
            regex: Regex::new(source)?,
            source: source.to_owned(),
        })
    }
}

impl Pattern for &Expression {
    fn find_matches(&self, inside: &str) -> Called<Vec<(Offsets, bool)>> {
        (&self.regex).find_matches(inside).map_err(|error| {
            let source = self.source.escape_debug();
            let reason = format!("the expression `{source}` of the tokenizer cannot be matched with a text: {error}");
            FAILURE.set(Some(reason.clone()));
            reason.into()
        })
    }
}

/// A normalizer.
enum Normalizer {
    Sequence(Vec<Self>),
    Replace(Expression, String),
    Other(NormalizerWrapper),
}

impl Normalizer {
    fn new(wrapper: &NormalizerWrapper) -> Called<Self> {
        Ok(match wrapper {
            NormalizerWrapper::Sequence(steps) => {
                Self::Sequence(steps.as_ref().iter().map(Self::new).collect::<Called<_>>()?)
            }
            // The pattern is private in the crate.
            NormalizerWrapper::Replace(replace) => match serde_json::to_value(replace)?.pointer("/pattern/Regex") {
                Some(Value::String(source)) => Self::Replace(Expression::new(source)?, replace.content.clone()),
                _ => Self::Other(wrapper.clone()),
            },
            other => Self::Other(other.clone()),
        })
    }
}

impl tokenizers::Normalizer for Normalizer {
    fn normalize(&self, normalized: &mut NormalizedString) -> Called<()> {
        match self {
            Self::Sequence(steps) => steps.iter().try_for_each(|step| step.normalize(normalized)),
            Self::Replace(expression, content) => normalized.replace(expression, content),
            Self::Other(wrapper) => wrapper.normalize(normalized),
        }
    }
}

/// A pre-tokenizer.
enum PreTokenizer {
    Sequence(Vec<Self>),
    Split {
        expression: Expression,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    Other(PreTokenizerWrapper),
}

impl PreTokenizer {
    fn new(wrapper: &PreTokenizerWrapper) -> Called<Self> {
        Ok(match wrapper {
            PreTokenizerWrapper::Sequence(steps) => {
                Self::Sequence(steps.as_ref().iter().map(Self::new).collect::<Called<_>>()?)
            }
            PreTokenizerWrapper::Split(split) => match &split.pattern {
                SplitPattern::Regex(source) => Self::Split {
                    expression: Expression::new(source)?,
                    behavior: split.behavior,
                    invert: split.invert,
                },
                SplitPattern::String(_) => Self::Other(wrapper.clone()),
            },
            other => Self::Other(other.clone()),
        })
    }
}

impl tokenizers::PreTokenizer for PreTokenizer {
    fn pre_tokenize(&self, pretokenized: &mut PreTokenizedString) -> Called<()> {
        match self {
            Self::Sequence(steps) => steps.iter().try_for_each(|step| step.pre_tokenize(pretokenized)),
            Self::Split {
                expression,
                behavior,
                invert: false,
            } => pretokenized.split(|_, text| text.split(expression, *behavior)),
            Self::Split {
                expression, behavior, ..
            } => pretokenized.split(|_, text| text.split(Invert(expression), *behavior)),
            Self::Other(wrapper) => wrapper.pre_tokenize(pretokenized),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tokenizer(normalizer: &Value, pre_tokenizer: &Value) -> Tokenizer {
        let text = json!({
            "version": "1.0", "added_tokens": [], "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, " ": 3, "aa": 4}, "merges": [["a", "a"]]},
        });
        text.to_string().parse().expect("valid")
    }

    /// The first text has 100 letters, after which the expression fails in every way there is.
    #[test]
    fn an_expression_that_backtracks_for_ever_is_an_error() {
        let pattern = json!({"Regex": "(a+)+(?=b)b"});
        for invert in [false, true] {
            let split = json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": invert});
            let replace = json!({"type": "Replace", "pattern": pattern, "content": "c"});
            let several = json!({"type": "Sequence", "pretokenizers": [split]});
            for (normalizer, pre_tokenizer) in [(Value::Null, split), (Value::Null, several), (replace, Value::Null)] {
                let library = tokenizer(&normalizer, &pre_tokenizer);
                let fallback = Fallback::new(&library).expect("valid");
                let mut ids: Vec<u32> = Vec::new();
                let error = fallback.encode(&"a".repeat(100), &mut ids).expect_err("it backtracks");
                assert!(error.to_string().contains("backtracking"), "{error}");
                fallback
                    .encode("caab caaac", &mut ids)
                    .expect("it does not backtrack long");
                assert_eq!(
                    ids,
                    library.encode_fast("caab caaac", false).expect("any text").get_ids()
                );
            }
        }
    }
}
