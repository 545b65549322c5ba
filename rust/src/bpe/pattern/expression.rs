//! Parse the regular expression of a pre-tokenizer into a tree of character sets.
//!
//! The expressions follow the rules of the `tokenizers` package for Python (Oniguruma with Ruby's syntax): `$` is the end
//! of a line, `{1,3}+` repeats `{1,3}`. Everything that looks behind, refers back, or looks further ahead than one
//! character is refused, and so is everything that Oniguruma and `regex-syntax` could understand differently.

use std::str::Chars;

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

use super::classes::{bracketed, escaped, set_of_text};

/// Deepest nesting of groups.
const MAX_DEPTH: u32 = 20;
/// Largest bound of a repetition.
const MAX_REPEAT: u32 = 100;
const MAX_LEN: usize = 1 << 14;

/// A part of an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// One character of the set.
    Set(ClassUnicode),
    /// One after the other.
    Sequence(Vec<Node>),
    /// The first that matches.
    Choice(Vec<Node>),
    /// As often as possible, from `min` to `max` times; as rarely as possible if not `greedy`.
    Repeat {
        node: Box<Node>,
        min: u32,
        max: Option<u32>,
        greedy: bool,
    },
    /// The next character is in the set, or the text ends and `or_end` is set. It is not consumed.
    Look { set: ClassUnicode, or_end: bool },
}

/// Parse an expression. The error says what is not supported.
pub fn parse(expression: &str) -> Result<Node, String> {
    if expression.len() > MAX_LEN {
        return Err(format!("is longer than {MAX_LEN} bytes"));
    }
    let mut parser = Parser {
        rest: expression.chars(),
        depth: 0,
    };
    let node = parser.choice(false)?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err("has an unmatched `)`".into()),
    }
}

/// The expression that matches exactly this text.
pub fn literal(text: &str) -> Node {
    let one = |character| Node::Set(ClassUnicode::new([ClassUnicodeRange::new(character, character)]));
    Node::Sequence(text.chars().map(one).collect())
}

impl Node {
    /// Whether it matches the empty text, at least before some character.
    pub fn matches_empty(&self) -> bool {
        match self {
            Self::Set(_) => false,
            Self::Sequence(nodes) => nodes.iter().all(Self::matches_empty),
            Self::Choice(nodes) => nodes.iter().any(Self::matches_empty),
            Self::Repeat { node, min, .. } => *min == 0 || node.matches_empty(),
            Self::Look { .. } => true,
        }
    }
}

struct Parser<'a> {
    rest: Chars<'a>,
    depth: u32,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    /// Skip the prefix, if the rest begins with it.
    fn skip(&mut self, prefix: &str) -> bool {
        let rest = self.rest.as_str().strip_prefix(prefix);
        rest.inspect(|rest| self.rest = rest.chars()).is_some()
    }

    fn choice(&mut self, any_case: bool) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("is nested too deeply".into());
        }
        let mut nodes = vec![self.sequence(any_case)?];
        while self.skip("|") {
            nodes.push(self.sequence(any_case)?);
        }
        self.depth -= 1;
        Ok(if nodes.len() == 1 {
            nodes.remove(0)
        } else {
            Node::Choice(nodes)
        })
    }

    fn sequence(&mut self, any_case: bool) -> Result<Node, String> {
        let mut nodes = Vec::new();
        while self.peek().is_some_and(|next| !matches!(next, '|' | ')')) {
            let node = self.item(any_case)?;
            nodes.push(self.repeats(node)?);
        }
        Ok(Node::Sequence(nodes))
    }

    fn item(&mut self, any_case: bool) -> Result<Node, String> {
        for (open, any_case) in [("(?:", any_case), ("(?i:", true)] {
            if self.skip(open) {
                let node = self.choice(any_case)?;
                return self.close(node);
            }
        }
        for (open, negated) in [("(?!", true), ("(?=", false)] {
            if self.skip(open) {
                let inside = self.choice(any_case)?;
                return self.look(inside, negated);
            }
        }
        if self.rest.as_str().starts_with("(?") {
            return Err("has a group of an unknown kind".into());
        }
        if self.skip("(") {
            let node = self.choice(any_case)?;
            return self.close(node);
        }
        if self.skip("$") {
            return Ok(Node::Look {
                set: set_of_text("\\n", false)?,
                or_end: true,
            });
        }
        if self.skip("\\z") {
            return Ok(Node::Look {
                set: ClassUnicode::empty(),
                or_end: true,
            });
        }
        self.set(any_case).map(Node::Set)
    }

    fn close<T>(&mut self, inside: T) -> Result<T, String> {
        if self.skip(")") {
            Ok(inside)
        } else {
            Err("has an unmatched `(`".into())
        }
    }

    fn look(&mut self, inside: Node, negated: bool) -> Result<Node, String> {
        self.close(())?;
        let (Node::Set(mut set), or_end) = (single(inside).ok_or("looks ahead further than one character")?, negated)
        else {
            return Err("looks ahead further than one character".into());
        };
        if negated {
            set.negate();
        }
        Ok(Node::Look { set, or_end })
    }

    fn repeats(&mut self, mut node: Node) -> Result<Node, String> {
        loop {
            let braced = self.peek() == Some('{');
            let Some((min, max)) = self.bounds()? else {
                return Ok(node);
            };
            if max.is_none() && node.matches_empty() {
                return Err("repeats a part that may be empty".into());
            }
            let possessive = !braced && self.skip("+");
            let greedy = possessive || !self.skip("?");
            if !greedy && braced && max == Some(min) {
                return Err("has `{n}?`".into());
            }
            let ahead = if possessive {
                let Some(Node::Set(mut set)) = single(node.clone()) else {
                    return Err("has a possessive repetition of more than one class".into());
                };
                set.negate();
                Some(Node::Look { set, or_end: true })
            } else {
                None
            };
            let optional = max == Some(1);
            node = Node::Repeat {
                node: Box::new(node),
                min,
                max,
                greedy,
            };
            // After `a++` comes no `a`. After `a?+` one may come, but only if the first was taken.
            node = match (ahead, optional, node) {
                (Some(ahead), true, Node::Repeat { node, .. }) => {
                    Node::Choice(vec![*node, Node::Sequence(vec![ahead])])
                }
                (Some(ahead), _, node) => Node::Sequence(vec![node, ahead]),
                (None, _, node) => node,
            };
        }
    }

    /// The bounds of a repetition; None if none follows.
    fn bounds(&mut self) -> Result<Option<(u32, Option<u32>)>, String> {
        for (sign, bounds) in [("?", (0, Some(1))), ("*", (0, None)), ("+", (1, None))] {
            if self.skip(sign) {
                return Ok(Some(bounds));
            }
        }
        if !self.skip("{") {
            return Ok(None);
        }
        let (inside, rest) = self.rest.as_str().split_once('}').ok_or("has an unmatched `{`")?;
        self.rest = rest.chars();
        let number = |text: &str| {
            let number = text.parse().ok().filter(|&number| number <= MAX_REPEAT);
            number.ok_or_else(|| format!("has the repetition {{{inside}}}"))
        };
        let bounds = match inside.split_once(',') {
            None => (number(inside)?, Some(number(inside)?)),
            Some((min, "")) => (number(min)?, None),
            Some((min, max)) => (number(min)?, Some(number(max)?)),
        };
        if bounds.1.is_some_and(|max| max < bounds.0 || max == 0) {
            return Err(format!("has the repetition {{{inside}}}"));
        }
        Ok(Some(bounds))
    }

    /// Read one character, escape, property or bracketed class.
    fn set(&mut self, any_case: bool) -> Result<ClassUnicode, String> {
        let text = self.rest.as_str();
        let end = match self.peek() {
            Some('[') => bracketed(text)?,
            Some('\\') => escaped(text)?,
            Some(special @ ('^' | '*' | '+' | '?' | '{' | '}' | ']')) => {
                return Err(format!("has `{special}` in an unusual place"));
            }
            Some(character) => character.len_utf8(),
            None => return Err("ends too early".into()),
        };
        self.rest = text[end..].chars();
        set_of_text(&text[..end], any_case)
    }
}

/// The only part of a node with one part.
fn single(node: Node) -> Option<Node> {
    match node {
        Node::Sequence(mut nodes) | Node::Choice(mut nodes) => {
            if nodes.len() == 1 {
                nodes.pop().and_then(single)
            } else {
                None
            }
        }
        other => Some(other),
    }
}
