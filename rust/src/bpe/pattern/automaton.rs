//! Compile an expression into a table that reads one character at a time, without going back in the text.
//!
//! A state is a list of places in the expression, those that are preferred first. Reading a character moves every place
//! on. A place at the end of the expression is a match, and less preferred places are then dropped; a later match of a
//! preferred place takes precedence. This is how an expression that tries its alternatives in order chooses its match. A
//! look-ahead is decided when the next character, or the end of the text, is read: so a match is reported one step late.
//!
//! A character where nothing matches is a match of the last kind, a gap of one character. So there is always a match.

use std::collections::HashMap;

use super::atoms::{AtomSet, END};
use super::expression::Node;

const MAX_PLACES: usize = 4_000;
const MAX_STATES: usize = 250;
/// The state after which nothing can match.
pub const DEAD: u8 = 0;
/// The state at the beginning of a match.
pub const FIRST: u8 = 1;
/// Columns of the table: the atoms, and `END`.
const COLUMNS: usize = 64;

/// What ends before the character that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Match,
    Gap,
}

/// The result of reading a character or the end of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The next state.
    pub next: u8,
    /// Whether the text before the character is a match or a gap.
    pub ended: Option<Kind>,
}

/// The table of one expression.
pub struct Automaton {
    steps: Vec<[Step; COLUMNS]>,
}

type Place = u16;

enum Part {
    Set(AtomSet, Place),
    Look(AtomSet, Place),
    Fork(Vec<Place>),
    End(Kind),
}

impl Automaton {
    /// Compile an expression; `atoms_of` gives the atoms of its sets. The error says what is not supported.
    pub fn new(node: &Node, count: u8, atoms_of: &dyn Fn(&Node) -> AtomSet) -> Result<Self, String> {
        let mut compiler = Compiler {
            parts: vec![Part::End(Kind::Match), Part::End(Kind::Gap)],
            atoms_of,
        };
        let matched = compiler.add(node, 0)?;
        let gap = compiler.push(Part::Set((1 << count) - 1, 1))?;
        let first = compiler.push(Part::Fork(vec![matched, gap]))?;
        let parts = compiler.parts;
        let (mut lists, mut known) = (vec![Vec::new(), Vec::new()], HashMap::new());
        expand(&parts, first, &mut lists[1]);
        known.insert(Vec::new(), DEAD);
        known.insert(lists[1].clone(), FIRST);
        let mut steps = Vec::new();
        while let Some(places) = lists.get(steps.len()).cloned() {
            let mut row = [Step {
                next: DEAD,
                ended: None,
            }; COLUMNS];
            for column in (0..count).chain([END]) {
                let mut next = Vec::new();
                let ended = read(&parts, &places, column, &mut next);
                let state = *known.entry(next).or_insert_with_key(|next| {
                    lists.push(next.clone());
                    (lists.len() - 1) as u8
                });
                if lists.len() > MAX_STATES {
                    return Err(format!("needs more than {MAX_STATES} states"));
                }
                row[usize::from(column)] = Step { next: state, ended };
            }
            steps.push(row);
        }
        if steps[usize::from(FIRST)].iter().any(|step| step.ended.is_some()) {
            return Err("matches the empty text".into());
        }
        Ok(Self { steps })
    }

    /// Read an atom, or `END`.
    #[inline]
    pub fn step(&self, state: u8, atom: u8) -> Step {
        self.steps[usize::from(state)][usize::from(atom)]
    }

    /// Whether a match is found at every character, so that there are no gaps.
    pub fn always_matches(&self, count: u8) -> bool {
        (0..count).all(|atom| {
            let row = &self.steps[usize::from(self.step(FIRST, atom).next)];
            (0..count)
                .chain([END])
                .all(|next| row[usize::from(next)].ended == Some(Kind::Match))
        })
    }

    /// Whether a character of this atom may be replaced by several without any other change of the words.
    pub fn may_repeat(&self, atom: u8, count: u8) -> bool {
        let columns = || (0..count).chain([END]);
        (FIRST..self.len())
            .map(|state| self.step(state, atom).next)
            .filter(|&state| state != DEAD)
            .all(|state| {
                let ended = |column| self.step(state, column).ended;
                let again = self.step(state, atom);
                let is_gap = columns().all(|column| {
                    self.step(state, column)
                        == Step {
                            next: DEAD,
                            ended: Some(Kind::Gap),
                        }
                });
                let stays =
                    again.next == state && (again.ended.is_none() || columns().all(|column| ended(column).is_some()));
                is_gap || stays
            })
    }

    /// Number of states.
    pub fn len(&self) -> u8 {
        self.steps.len() as u8
    }
}

struct Compiler<'a> {
    parts: Vec<Part>,
    atoms_of: &'a dyn Fn(&Node) -> AtomSet,
}

impl Compiler<'_> {
    fn push(&mut self, part: Part) -> Result<Place, String> {
        if self.parts.len() >= MAX_PLACES {
            return Err("is too long".into());
        }
        self.parts.push(part);
        Ok((self.parts.len() - 1) as Place)
    }

    /// Add a node that continues at `next`. Returns its place.
    fn add(&mut self, node: &Node, next: Place) -> Result<Place, String> {
        match node {
            Node::Set(_) => self.push(Part::Set((self.atoms_of)(node), next)),
            Node::Look { or_end, .. } => {
                let end = AtomSet::from(*or_end) << END;
                self.push(Part::Look((self.atoms_of)(node) | end, next))
            }
            Node::Sequence(nodes) => nodes.iter().rev().try_fold(next, |next, node| self.add(node, next)),
            Node::Choice(nodes) => {
                let places: Result<_, _> = nodes.iter().map(|node| self.add(node, next)).collect();
                self.push(Part::Fork(places?))
            }
            Node::Repeat { node, min, max, greedy } => {
                let order = |inside, outside| {
                    if *greedy {
                        vec![inside, outside]
                    } else {
                        vec![outside, inside]
                    }
                };
                let mut place = next;
                match max {
                    None => {
                        let fork = self.push(Part::Fork(Vec::new()))?;
                        let inside = self.add(node, fork)?;
                        self.parts[usize::from(fork)] = Part::Fork(order(inside, next));
                        place = fork;
                    }
                    Some(max) => {
                        for _ in *min..*max {
                            let inside = self.add(node, place)?;
                            place = self.push(Part::Fork(order(inside, next)))?;
                        }
                    }
                }
                (0..*min).try_fold(place, |place, _| self.add(node, place))
            }
        }
    }
}

/// Append the places that a place leads to without reading: sets, look-aheads and ends. Nothing comes after an end.
fn expand(parts: &[Part], place: Place, places: &mut Vec<Place>) {
    if has_end(parts, places) || places.contains(&place) {
        return;
    }
    match &parts[usize::from(place)] {
        Part::Fork(forks) => forks.iter().for_each(|&fork| expand(parts, fork, places)),
        _ => places.push(place),
    }
}

fn has_end(parts: &[Part], places: &[Place]) -> bool {
    places
        .last()
        .is_some_and(|&last| matches!(parts[usize::from(last)], Part::End(_)))
}

/// Read an atom or `END` from these places into the next ones. Returns what ended before it.
fn read(parts: &[Part], places: &[Place], atom: u8, next: &mut Vec<Place>) -> Option<Kind> {
    for &place in places {
        match &parts[usize::from(place)] {
            Part::Set(atoms, after) if atoms >> atom & 1 == 1 => {
                if !has_end(parts, next) {
                    expand(parts, *after, next);
                }
            }
            Part::Look(atoms, after) if atoms >> atom & 1 == 1 => {
                let mut ahead = Vec::new();
                expand(parts, *after, &mut ahead);
                if let Some(kind) = read(parts, &ahead, atom, next) {
                    return Some(kind);
                }
            }
            Part::End(kind) => return Some(*kind),
            Part::Set(..) | Part::Look(..) | Part::Fork(_) => {}
        }
    }
    None
}
