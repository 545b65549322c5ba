//! All ways in which a text can be read, as a graph: a node is what is known between two characters, an edge is a
//! character.
//!
//! A reader that meets the end of a match does not know yet whether a longer match follows. Here it guesses. If it guesses
//! that the match ends, the longer one is still followed as a refuted thread, and the guess was wrong if that thread ends
//! too. Each text has exactly one way through the graph without a wrong guess, and that way has the words of the reader. So
//! what holds on all ways that go through some classes of characters holds in every text that contains them.

use std::collections::{BTreeSet, HashMap};

use super::atoms::END;
use super::automaton::{DEAD, FIRST, Kind};
use super::steps::{Step, Steps};

const MAX_NODES: usize = 4_000;
/// The node before the text.
pub const ORIGIN: u16 = 0;

/// What one step knows between two characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Reading {
    state: u8,
    /// The guess what the text that is being read turns out to be.
    kind: Kind,
    /// Threads that went on beyond the end of a word and must not end any more.
    refuted: BTreeSet<u8>,
}

/// A character as all steps see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// The atom of the character.
    pub atom: u8,
    /// The atom of its byte, for steps after `ByteLevel`; None for a character of several bytes.
    pub byte: Option<u8>,
}

/// A way to read one character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    pub symbol: u8,
    pub to: u16,
    /// Whether a word starts at the character.
    pub starts: bool,
    /// Whether it is read as if it were the first of a text.
    pub fresh: bool,
}

/// The graph of a pre-tokenizer.
pub struct Graph {
    pub symbols: Vec<Symbol>,
    /// The edges from each node. All of them lead to nodes from which the text can end.
    pub edges: Vec<Vec<Edge>>,
    /// Whether the text can end at each node.
    pub ends: Vec<bool>,
}

type Node = Vec<Reading>;

/// What became of all steps when a character was read.
struct Way {
    node: Node,
    starts: bool,
    fresh: bool,
}

impl Graph {
    /// Make the graph. None if it is too large.
    pub fn new(steps: &Steps) -> Option<Self> {
        let symbols = symbols(steps);
        let (mut nodes, mut known): (Vec<Option<Node>>, _) = (vec![None], HashMap::new());
        let (mut edges, mut ends) = (Vec::new(), Vec::new());
        while let Some(node) = nodes.get(edges.len()).cloned() {
            let mut found = BTreeSet::new();
            for (index, &symbol) in symbols.iter().enumerate() {
                for way in ways(steps, node.as_ref(), symbol) {
                    let to = *known.entry(way.node).or_insert_with_key(|node| {
                        nodes.push(Some(node.clone()));
                        (nodes.len() - 1) as u16
                    });
                    found.insert(Edge {
                        symbol: index as u8,
                        to,
                        starts: way.starts,
                        fresh: way.fresh,
                    });
                }
            }
            if nodes.len() > MAX_NODES {
                return None;
            }
            ends.push(node.is_none_or(|node| can_end(steps, &node)));
            edges.push(found.into_iter().collect::<Vec<_>>());
        }
        remove_dead_ends(&mut edges, &ends);
        Some(Self { symbols, edges, ends })
    }

    /// Whether a step removes text, so that words do not follow each other.
    pub fn removes_text(steps: &Steps) -> bool {
        let removed = |step: &Step, kind| {
            step.removes(kind)
                && (FIRST..step.automaton.len())
                    .any(|state| (0..=END).any(|atom| step.automaton.step(state, atom).ended == Some(kind)))
        };
        steps.steps.iter().any(|step| {
            removed(step, Kind::Match)
                || removed(step, Kind::Gap) && !step.automaton.always_matches(steps.atoms.count())
        })
    }
}

fn symbols(steps: &Steps) -> Vec<Symbol> {
    let mut symbols = Vec::new();
    let by_byte = steps.steps.iter().any(|step| step.on_bytes);
    if by_byte {
        for (byte, &atom) in steps.ascii_atoms.iter().enumerate() {
            let symbol = Symbol {
                atom,
                byte: Some(steps.byte_atoms[byte]),
            };
            if !symbols.contains(&symbol) {
                symbols.push(symbol);
            }
        }
    }
    symbols.extend((0..steps.atoms.count()).map(|atom| Symbol { atom, byte: None }));
    symbols
}

/// All ways to read a character after a node; None is the beginning of the text.
fn ways(steps: &Steps, node: Option<&Node>, symbol: Symbol) -> Vec<Way> {
    let by_byte = steps.steps.iter().any(|step| step.on_bytes);
    if !by_byte || symbol.byte.is_some() {
        return step_all(steps, node, Some(symbol.atom), symbol.byte.unwrap_or_default());
    }
    // Bytes beyond ASCII may come in any number and order here. That only adds ways.
    let high: BTreeSet<u8> = steps.byte_atoms[128..].iter().copied().collect();
    let mut found: Vec<Way> = Vec::new();
    for &first in &high {
        let mut open = step_all(steps, node, Some(symbol.atom), first);
        while let Some(way) = open.pop() {
            if found
                .iter()
                .any(|other| other.node == way.node && other.starts == way.starts && other.fresh == way.fresh)
            {
                continue;
            }
            for &byte in &high {
                let inside = step_all(steps, Some(&way.node), None, byte);
                open.extend(inside.into_iter().map(|next| Way { node: next.node, ..way }));
            }
            found.push(way);
        }
    }
    found
}

/// Move every step by one character, or only the steps after `ByteLevel` by one byte if `atom` is None.
fn step_all(steps: &Steps, node: Option<&Node>, atom: Option<u8>, byte: u8) -> Vec<Way> {
    let mut all = vec![Way {
        node: Vec::new(),
        starts: node.is_none(),
        fresh: true,
    }];
    for (index, step) in steps.steps.iter().enumerate() {
        let reading = node.map(|node| &node[index]);
        let mut next = Vec::new();
        for way in all {
            let mut add = |reading: Reading, starts: bool, fresh: bool| {
                let mut node = way.node.clone();
                node.push(reading);
                next.push(Way {
                    node,
                    starts,
                    fresh: way.fresh && fresh,
                });
            };
            let column = match (step.on_bytes, atom, reading) {
                (true, ..) => byte,
                (false, Some(atom), _) => atom,
                (false, None, Some(reading)) => {
                    add(reading.clone(), way.starts, true);
                    continue;
                }
                (false, None, None) => continue,
            };
            match reading {
                Some(reading) if !way.starts => step.read(reading, column, &mut add),
                Some(reading) if !step.can_end(reading) => {}
                _ => [Kind::Match, Kind::Gap].into_iter().for_each(|kind| {
                    add(
                        Reading {
                            state: step.automaton.step(FIRST, column).next,
                            kind,
                            refuted: BTreeSet::new(),
                        },
                        true,
                        true,
                    );
                }),
            }
        }
        all = next;
    }
    all
}

fn can_end(steps: &Steps, node: &Node) -> bool {
    steps
        .steps
        .iter()
        .zip(node)
        .all(|(step, reading)| step.can_end(reading))
}

impl Step {
    /// Add the readings after a character: the word goes on, or it ended before the character.
    fn read(&self, reading: &Reading, column: u8, add: &mut impl FnMut(Reading, bool, bool)) {
        let mut refuted = BTreeSet::new();
        for &state in &reading.refuted {
            let read = self.automaton.step(state, column);
            if read.ended.is_some() {
                return;
            }
            refuted.insert(read.next);
        }
        refuted.remove(&DEAD);
        let read = self.automaton.step(reading.state, column);
        if read.next != DEAD {
            add(
                Reading {
                    state: read.next,
                    kind: reading.kind,
                    refuted: refuted.clone(),
                },
                false,
                false,
            );
        }
        if read.ended == Some(reading.kind) {
            refuted.insert(read.next);
            refuted.remove(&DEAD);
            let state = self.automaton.step(FIRST, column).next;
            for kind in [Kind::Match, Kind::Gap] {
                let starts = self.separates(reading.kind, kind);
                add(
                    Reading {
                        state,
                        kind,
                        refuted: refuted.clone(),
                    },
                    starts,
                    true,
                );
            }
        }
    }

    fn can_end(&self, reading: &Reading) -> bool {
        self.automaton.step(reading.state, END).ended == Some(reading.kind)
            && reading
                .refuted
                .iter()
                .all(|&state| self.automaton.step(state, END).ended.is_none())
    }
}

/// Remove the edges to nodes from which no text can end: they are wrong guesses.
fn remove_dead_ends(edges: &mut [Vec<Edge>], ends: &[bool]) {
    let mut alive = ends.to_vec();
    loop {
        let before = alive.clone();
        for (node, edges) in edges.iter().enumerate() {
            alive[node] |= edges.iter().any(|edge| alive[usize::from(edge.to)]);
        }
        if alive == before {
            break;
        }
    }
    for edges in edges {
        edges.retain(|edge| alive[usize::from(edge.to)]);
    }
}
