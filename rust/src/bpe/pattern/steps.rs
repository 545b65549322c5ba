//! Read the pre-tokenizer of a tokenizer.json: a list of steps, each of which splits the pieces of the step before it.

use serde_json::Value;
use unicode_categories::UnicodeCategories;

use super::atoms::{AtomSet, Atoms};
use super::automaton::{Automaton, Kind};
use super::classes;
use super::expression::{self, Node};

/// The expression of `ByteLevel` itself (GPT-2, `encoder.py`).
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// No character above this one is punctuation.
const LAST_PUNCTUATION: char = '\u{1ffff}';

/// What becomes of matches and of the text between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behavior {
    Isolated,
    Removed,
    Contiguous,
    MergedWithPrevious,
    MergedWithNext,
}

/// One step: an expression, and what becomes of its matches.
pub struct Step {
    pub automaton: Automaton,
    behavior: Behavior,
    invert: bool,
    /// Whether the step sees every byte as the character that stands for it, because it comes after `ByteLevel`.
    pub on_bytes: bool,
}

/// All steps, and the classes of characters that they tell apart.
#[expect(clippy::struct_field_names, reason = "the steps of the file")]
pub struct Steps {
    pub atoms: Atoms,
    /// The atom of the character that stands for each byte.
    pub byte_atoms: [u8; 256],
    /// The atom of each ASCII character.
    pub ascii_atoms: [u8; 128],
    pub steps: Vec<Step>,
    /// Whether a space is put before a text that does not begin with one.
    pub adds_space: bool,
}

struct Draft {
    node: Node,
    behavior: Behavior,
    invert: bool,
    on_bytes: bool,
}

impl Step {
    fn is_match(&self, kind: Kind) -> bool {
        (kind == Kind::Match) != self.invert
    }

    /// Whether a piece ends between two neighbors of these kinds.
    pub fn separates(&self, left: Kind, right: Kind) -> bool {
        let (first, second) = (self.is_match(left), self.is_match(right));
        !(left == Kind::Gap && right == Kind::Gap)
            && match self.behavior {
                Behavior::Isolated | Behavior::Removed => true,
                Behavior::Contiguous => first != second,
                Behavior::MergedWithPrevious => first || !second,
                Behavior::MergedWithNext => !first || second,
            }
    }

    /// Whether pieces of this kind are dropped.
    pub fn removes(&self, kind: Kind) -> bool {
        self.behavior == Behavior::Removed && self.is_match(kind)
    }
}

impl Steps {
    /// Read a pre-tokenizer. `byte_characters` are the characters that stand for the bytes. The error says what is not
    /// supported.
    pub fn read(pre_tokenizer: &Value, byte_characters: &[char; 256]) -> Result<Self, String> {
        let (mut drafts, mut byte_level) = (Vec::new(), None);
        add(pre_tokenizer, &mut drafts, &mut byte_level)?;
        let adds_space = byte_level.ok_or("its pre_tokenizer has no ByteLevel")?;
        let mut sets = Vec::new();
        for draft in &drafts {
            collect_sets(&draft.node, &mut sets);
        }
        let named = |reason| format!("its pre_tokenizer {reason}");
        let (atoms, unions) = Atoms::new(&sets).map_err(named)?;
        let atoms_of = |node: &Node| match node {
            Node::Set(set) | Node::Look { set, .. } => sets
                .iter()
                .position(|other| other == set)
                .map_or(0, |index| unions[index]),
            _ => AtomSet::default(),
        };
        let compile = |draft: Draft| {
            let automaton = Automaton::new(&draft.node, atoms.count(), &atoms_of)
                .map_err(|reason| format!("an expression of its pre_tokenizer {reason}"))?;
            let Draft {
                behavior,
                invert,
                on_bytes,
                ..
            } = draft;
            Ok(Step {
                automaton,
                behavior,
                invert,
                on_bytes,
            })
        };
        let steps = drafts.into_iter().map(compile).collect::<Result<_, String>>()?;
        Ok(Self {
            byte_atoms: byte_characters.map(|character| atoms.of_char(character)),
            ascii_atoms: std::array::from_fn(|byte| atoms.of_char(char::from(byte as u8))),
            atoms,
            steps,
            adds_space,
        })
    }
}

/// Append the steps of a pre-tokenizer. `byte_level` is set by `ByteLevel`: whether it adds a space.
fn add(value: &Value, drafts: &mut Vec<Draft>, byte_level: &mut Option<bool>) -> Result<(), String> {
    let on_bytes = byte_level.is_some();
    let flag = |name: &str, default: bool| value[name].as_bool().unwrap_or(default);
    let mut step = |node, behavior, invert| {
        drafts.push(Draft {
            node,
            behavior,
            invert,
            on_bytes,
        });
    };
    match value["type"].as_str() {
        Some("Sequence") => {
            let parts = value["pretokenizers"]
                .as_array()
                .ok_or("its pre_tokenizer has no steps")?;
            return parts.iter().try_for_each(|part| add(part, drafts, byte_level));
        }
        Some("ByteLevel") if on_bytes => return Err("its pre_tokenizer has ByteLevel twice".into()),
        Some("ByteLevel") => {
            let adds_space = flag("add_prefix_space", true);
            if flag("use_regex", true) {
                step(parse(GPT2)?, Behavior::Isolated, false);
            }
            if adds_space && drafts.len() > usize::from(flag("use_regex", true)) {
                return Err("its pre_tokenizer adds a space to every word".into());
            }
            *byte_level = Some(adds_space);
        }
        Some("Split") => {
            let pattern = &value["pattern"];
            let node = match (pattern["Regex"].as_str(), pattern["String"].as_str()) {
                (Some(expression), None) => parse(expression)?,
                (None, Some(text)) => expression::literal(text),
                _ => return Err("its pre_tokenizer has a Split without a pattern".into()),
            };
            step(node, behavior(&value["behavior"])?, flag("invert", false));
        }
        Some("Digits") => {
            let individual = flag("individual_digits", false);
            let behavior = if individual {
                Behavior::Isolated
            } else {
                Behavior::Contiguous
            };
            step(Node::Set(classes::set_of(char::MAX, char::is_numeric)), behavior, false);
        }
        Some("Punctuation") => {
            let is_punctuation = |character: char| character.is_ascii_punctuation() || character.is_punctuation();
            let given = &value["behavior"];
            let behavior = if given.is_null() {
                Behavior::Isolated
            } else {
                behavior(given)?
            };
            step(
                Node::Set(classes::set_of(LAST_PUNCTUATION, is_punctuation)),
                behavior,
                false,
            );
        }
        other => {
            return Err(format!(
                "its pre_tokenizer has the step {}",
                other.unwrap_or("without a type")
            ));
        }
    }
    Ok(())
}

fn parse(expression: &str) -> Result<Node, String> {
    expression::parse(expression).map_err(|reason| format!("an expression of its pre_tokenizer {reason}"))
}

fn behavior(value: &Value) -> Result<Behavior, String> {
    match value.as_str() {
        Some("Isolated") => Ok(Behavior::Isolated),
        Some("Removed") => Ok(Behavior::Removed),
        Some("Contiguous") => Ok(Behavior::Contiguous),
        Some("MergedWithPrevious") => Ok(Behavior::MergedWithPrevious),
        Some("MergedWithNext") => Ok(Behavior::MergedWithNext),
        _ => Err(format!("its pre_tokenizer has the behavior {value}")),
    }
}

fn collect_sets(node: &Node, sets: &mut Vec<regex_syntax::hir::ClassUnicode>) {
    match node {
        Node::Set(set) | Node::Look { set, .. } => {
            if !sets.contains(set) {
                sets.push(set.clone());
            }
        }
        Node::Sequence(nodes) | Node::Choice(nodes) => nodes.iter().for_each(|node| collect_sets(node, sets)),
        Node::Repeat { node, .. } => collect_sets(node, sets),
    }
}
