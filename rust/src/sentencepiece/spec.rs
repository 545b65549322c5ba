//! Read a tokenizer.json, if its kind is a BPE of characters with byte fallback, as `SentencePiece` makes them.

use std::collections::HashSet;

use serde_json::Value;

use crate::bpe::hash::WordMap;
use crate::bpe::{AddedToken, File, Vocab};

/// Ids may be sparse, but a table over all of them must not be much larger than the vocabulary.
const MAX_IDS_PER_TOKEN: usize = 16;

/// Where a blank is put before a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    Never,
    /// Before every text between added tokens that are not normalized (the normalizer `Prepend`).
    Normalizer,
    /// Before every text between added tokens that does not begin with a blank (`Metaspace`).
    Always,
    /// The same, at the start of a document only.
    First,
}

/// What happens to a text before the merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// The character that stands for a space.
    pub blank: char,
    /// Whether spaces become blanks before normalized added tokens are searched.
    pub normalizes: bool,
    /// Where a blank is put before a text.
    pub prefix: Prefix,
    /// Whether no token may have a blank after its first character.
    pub splits: bool,
}

/// The contents of a tokenizer.json that the encoder needs.
pub struct Spec {
    /// What happens to a text before the merges.
    pub steps: Steps,
    /// The id of every ASCII character, and the id of the token that stands for every other byte.
    pub byte_ids: [u32; 256],
    /// The id of every other character that is a token.
    pub characters: WordMap<char, u32>,
    /// The ids (left, right, merged) in order of rank.
    pub merges: Vec<(u32, u32, u32)>,
    /// For each merge, the last character of the left token and the first of the right one.
    pub joins: Vec<(char, char)>,
    /// Tokens that are found in the text before anything else.
    pub added_tokens: Vec<AddedToken>,
    /// Ids of the model's vocabulary, which may include added tokens.
    pub vocab: Vocab,
}

impl Spec {
    /// Read the parts of a tokenizer.json.
    ///
    /// # Errors
    /// The reason why another encoder must be used.
    pub fn read(file: File<'_>) -> Result<Self, String> {
        file.check()?;
        let steps = read_steps(&file)?;
        let vocab = &file.model.vocab;
        if file.model.ignore_merges {
            return Err("its model ignores merges for texts in the vocabulary".into());
        }
        let characters = characters(vocab);
        let byte_ids = byte_ids(vocab, steps.blank)?;
        let merges = file.model.merge_ids()?;
        let joins = joins(vocab, &merges)?;
        Ok(Self {
            steps,
            byte_ids,
            characters,
            merges,
            joins,
            added_tokens: file.added_tokens,
            vocab: file.model.vocab,
        })
    }
}

/// The id of each character beyond ASCII in the vocabulary.
fn characters(vocab: &Vocab) -> WordMap<char, u32> {
    let single = |token: &str| {
        let mut characters = token.chars();
        characters
            .next()
            .filter(|character| !character.is_ascii() && characters.next().is_none())
    };
    vocab
        .iter()
        .filter_map(|(token, &id)| Some((single(token)?, id)))
        .collect()
}

/// The id of each ASCII character, and the byte token of each other byte.
fn byte_ids(vocab: &Vocab, blank: char) -> Result<[u32; 256], String> {
    let id = |token: &str| vocab.get(token).copied();
    let mut byte_ids = [0; 256];
    for (byte, slot) in (0..=u8::MAX).zip(&mut byte_ids) {
        let token = byte_token(byte);
        let spelled = if byte == b' ' { blank } else { byte.into() };
        let known = id(spelled.encode_utf8(&mut [0; 4])).filter(|_| byte.is_ascii());
        let never_in_text = matches!(byte, 0xC0 | 0xC1 | 0xF5..);
        *slot = match known.or_else(|| id(&token)) {
            Some(id) => id,
            None if never_in_text => 0,
            None => return Err(format!("its vocabulary lacks the byte token {token}")),
        };
    }
    if blank != ' ' && id(blank.encode_utf8(&mut [0; 4])).is_none() {
        return Err(format!("its vocabulary lacks the character {blank}"));
    }
    Ok(byte_ids)
}

/// The token that stands for a byte of a character outside the vocabulary.
fn byte_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// The characters that each merge joins: the last of the left token and the first of the right one.
fn joins(vocab: &Vocab, merges: &[(u32, u32, u32)]) -> Result<Vec<(char, char)>, String> {
    let num_ids = vocab.values().max().map_or(0, |&id| id as usize + 1);
    if num_ids > MAX_IDS_PER_TOKEN * vocab.len() {
        return Err("most ids below the largest one are not in its vocabulary".into());
    }
    let mut edges = vec![None; num_ids];
    for (token, &id) in vocab {
        let ends = (token.chars().next(), token.chars().next_back());
        if edges[id as usize].replace(ends).is_some() {
            return Err(format!("two of its tokens have the id {id}"));
        }
    }
    let byte_tokens: HashSet<u32> = (0..=u8::MAX)
        .filter_map(|byte| vocab.get(byte_token(byte).as_str()).copied())
        .collect();
    let mut joins = Vec::with_capacity(merges.len());
    for &(left, right, _) in merges {
        // Characters outside the vocabulary become byte tokens, and must end every token beside them.
        if byte_tokens.contains(&left) || byte_tokens.contains(&right) {
            return Err("its merges join tokens that stand for bytes".into());
        }
        // An empty token has no ends, and nothing merges into it.
        if let (Some((_, Some(last))), Some((Some(first), _))) = (edges[left as usize], edges[right as usize]) {
            joins.push((last, first));
        }
    }
    Ok(joins)
}

/// Read the normalizer and the `pre_tokenizer`.
fn read_steps(file: &File<'_>) -> Result<Steps, String> {
    let (mut blank, mut prepended) = (None, None);
    for step in flat(file.normalizer.as_ref(), "normalizers") {
        match step["type"].as_str().unwrap_or_default() {
            "Prepend" if prepended.is_none() => {
                // A space that is put first becomes a blank later.
                prepended = Some((step["prepend"].as_str().unwrap_or_default(), blank.is_none()));
            }
            "Replace" if blank.is_none() && step["pattern"]["String"] == " " => {
                blank = Some(
                    one_character(&step["content"])
                        .ok_or("its normalizer does not replace a space by one character")?,
                );
            }
            name => {
                return Err(format!(
                    "its normalizer has the step `{}`, which is of another kind",
                    name.escape_debug()
                ));
            }
        }
    }
    let mut steps = Steps {
        blank: blank.unwrap_or(' '),
        normalizes: blank.is_some(),
        prefix: Prefix::Never,
        splits: false,
    };
    if let Some((text, becomes_blank)) = prepended {
        let mut whole = [0; 4];
        if !(text == steps.blank.encode_utf8(&mut whole) || text == " " && becomes_blank && steps.normalizes) {
            return Err(format!(
                "its normalizer prepends `{}`, which is no blank",
                text.escape_debug()
            ));
        }
        steps.prefix = Prefix::Normalizer;
    }
    for step in flat(file.pre_tokenizer.as_ref(), "pretokenizers") {
        match step["type"].as_str().unwrap_or_default() {
            "Metaspace" if steps.prefix == Prefix::Never && !steps.splits => read_metaspace(step, &mut steps)?,
            // The text has no space any more.
            "Split" if steps.blank != ' ' && step["pattern"]["String"] == " " && step["invert"] == false => {}
            name => {
                return Err(format!(
                    "its pre_tokenizer has the step `{}`, which is of another kind",
                    name.escape_debug()
                ));
            }
        }
    }
    Ok(steps)
}

/// The steps of a normalizer or `pre_tokenizer` in order, also of those in a `Sequence`.
fn flat<'a>(step: Option<&'a Value>, key: &str) -> Vec<&'a Value> {
    let Some(step) = step else {
        return Vec::new();
    };
    match step[key].as_array() {
        Some(steps) if step["type"] == "Sequence" => steps.iter().flat_map(|step| flat(Some(step), key)).collect(),
        _ => vec![step],
    }
}

fn one_character(value: &Value) -> Option<char> {
    let mut characters = value.as_str()?.chars();
    characters.next().filter(|_| characters.next().is_none())
}

/// Read a `Metaspace` step. Older files have `add_prefix_space`, and leave out what newer ones say.
fn read_metaspace(step: &Value, steps: &mut Steps) -> Result<(), String> {
    let replacement = one_character(&step["replacement"]);
    let scheme = step.get("prepend_scheme").map_or(Some("always"), Value::as_str);
    let prefix = match scheme {
        Some("always") => Prefix::Always,
        Some("first") => Prefix::First,
        Some("never") => Prefix::Never,
        _ => return Err("its Metaspace step has an unknown prepend_scheme".into()),
    };
    let no_prefix = step["add_prefix_space"] == false;
    match replacement {
        Some(blank) if !(steps.normalizes && steps.blank != blank) => steps.blank = blank,
        _ => return Err("its Metaspace step has another blank than its normalizer".into()),
    }
    if no_prefix && prefix != Prefix::Never {
        return Err("its Metaspace step contradicts itself about the prefix".into());
    }
    steps.prefix = prefix;
    steps.splits = match &step["split"] {
        Value::Null => true,
        Value::Bool(splits) => *splits,
        _ => return Err("its Metaspace step has an unknown split".into()),
    };
    Ok(())
}
