//! What the classes of the two characters before and of the one after tell about a character: whether a word starts
//! there, or that only a reader can tell.
//!
//! Atoms are put into groups, to keep the tables small. A window of four groups is certain if all ways through the graph
//! agree. Ways that went through a window that is not certain need not be followed further, because a reader takes over
//! there, until a place where the text may be cut.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::atoms::END;
use super::automaton::{DEAD, FIRST};
use super::graph::{Edge, Graph, ORIGIN};
use super::steps::Steps;

/// Largest number of groups. The number after the last group stands for a place outside the text.
const MAX_GROUPS: usize = 19;

/// Whether a word starts at the third character of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// No text contains the window, unless a reader has taken over.
    Unseen,
    No,
    Yes,
    Unknown,
}

/// The groups and windows of a pre-tokenizer.
pub struct Windows {
    /// The group of each ASCII character.
    pub ascii_groups: [u8; 128],
    /// The group of each atom, for characters of several bytes.
    pub atom_groups: Vec<u8>,
    /// Whether the bytes of a character of several bytes can be treated as so many characters of its group.
    pub may_repeat: Vec<bool>,
    pub num_groups: usize,
    /// A start for every window, at `index`.
    starts: Vec<Start>,
    /// For each group, the groups before which a text may be cut if that group ends the first part.
    pub cuts: Vec<u32>,
}

impl Windows {
    /// Make the tables. None if there are too many groups or the graph is too large.
    pub fn new(steps: &Steps) -> Option<Self> {
        let graph = Graph::new(steps)?;
        let (groups, letters) = groups(steps, &graph);
        let num_groups = usize::from(*groups.iter().max()?) + 1;
        if num_groups > MAX_GROUPS {
            return None;
        }
        let group_of = |atom: u8, byte: Option<u8>| {
            let known = graph
                .symbols
                .iter()
                .position(|symbol| symbol.atom == atom && (byte.is_none() || symbol.byte == byte));
            known.map_or(0, |index| groups[index])
        };
        let by_byte = steps.steps.iter().any(|step| step.on_bytes);
        let count = steps.atoms.count();
        let wide_group = |atom| {
            graph
                .symbols
                .iter()
                .rposition(|symbol| symbol.atom == atom)
                .map_or(0, |index| groups[index])
        };
        let repeats = |atom| !by_byte && steps.steps.iter().all(|step| step.automaton.may_repeat(atom, count));
        let mut windows = Self {
            ascii_groups: std::array::from_fn(|code| {
                group_of(steps.ascii_atoms[code], by_byte.then_some(steps.byte_atoms[code]))
            }),
            atom_groups: (0..count).map(wide_group).collect(),
            may_repeat: (0..count).map(repeats).collect(),
            num_groups,
            starts: vec![Start::Unseen; (num_groups + 1).pow(4)],
            cuts: vec![0; num_groups + 1],
        };
        windows.explore(&Paths::new(&graph, &groups, num_groups), letters);
        Some(windows)
    }

    /// The group that stands for a place outside the text.
    pub fn outside(&self) -> usize {
        self.num_groups
    }

    /// Whether a word starts at the third of four characters of these groups.
    pub fn start(&self, window: [usize; 4]) -> Start {
        self.starts[self.index(window)]
    }

    fn index(&self, window: [usize; 4]) -> usize {
        window
            .into_iter()
            .fold(0, |index, group| index * (self.num_groups + 1) + group)
    }

    /// Follow all ways from all places where a text may be cut.
    fn explore(&mut self, paths: &Paths<'_>, letters: u32) {
        let contexts = paths.contexts();
        self.find_cuts(paths, &contexts);
        self.end_short_words(paths, &contexts, letters);
        let mut level: Vec<(Context, u32)> = Vec::new();
        for &(node, before, last) in &contexts {
            let edges = paths.edges[usize::from(node)].iter();
            let starting = edges.filter(|(_, edge)| edge.starts && edge.fresh);
            level.extend(starting.map(|&(group, edge)| ((edge.to, last, group), u32::MAX)));
            if node == ORIGIN {
                level.push(((node, before, last), u32::MAX));
            }
        }
        let mut done: HashMap<Context, u32> = HashMap::new();
        while !level.is_empty() {
            level.retain_mut(|(context, allowed)| {
                let known = done.entry(*context).or_default();
                *allowed &= !*known;
                *known |= *allowed;
                *allowed != 0
            });
            for &((node, before, last), allowed) in &level {
                for (window, edge) in paths.windows(node, before, last, allowed) {
                    let start = match (edge.starts, edge.fresh) {
                        (false, _) => Start::No,
                        (true, true) => Start::Yes,
                        (true, false) => Start::Unknown,
                    };
                    let index = self.index(window);
                    let known = &mut self.starts[index];
                    *known = if *known == Start::Unseen || *known == start {
                        start
                    } else {
                        Start::Unknown
                    };
                }
            }
            let mut next: HashMap<Context, u32> = HashMap::new();
            for &((node, before, last), allowed) in &level {
                for (window, edge) in paths.windows(node, before, last, allowed) {
                    if self.start(window) != Start::Unknown {
                        *next.entry((edge.to, last, window[2] as u8)).or_default() |= 1 << window[3];
                    }
                }
            }
            level = next.into_iter().collect();
        }
    }

    /// Contractions such as `'ll` end inside a run of letters, where a window of letters alone would not tell that they
    /// do. So the windows before such an end, which still see what comes before the letters, are made unknown.
    fn end_short_words(&mut self, paths: &Paths<'_>, contexts: &[Context], letters: u32) {
        let is_letter = |group: u8| letters >> group & 1 == 1;
        for &(node, before, last) in contexts {
            if is_letter(before) || !is_letter(last) {
                continue;
            }
            for &(second, edge) in paths.edges[usize::from(node)].iter().filter(|(_, edge)| !edge.starts) {
                for &(third, end) in paths.edges[usize::from(edge.to)].iter().filter(|(_, edge)| edge.starts) {
                    // Between two groups where words always start nothing is to be decided.
                    let is_open = paths.pairs.contains(&(second, third, false));
                    if is_letter(second) && is_letter(third) && end.fresh && is_open {
                        let index = self.index([before.into(), last.into(), second.into(), third.into()]);
                        self.starts[index] = Start::Unknown;
                    }
                }
            }
        }
    }

    /// A text may be cut between two groups if every way ends a word there, and would do so at the end of the text too.
    fn find_cuts(&mut self, paths: &Paths<'_>, contexts: &[Context]) {
        let (mut seen, mut refused) = (vec![0_u32; self.num_groups + 1], vec![0_u32; self.num_groups + 1]);
        for &(node, _, last) in contexts {
            for &(group, edge) in &paths.edges[usize::from(node)] {
                seen[last as usize] |= 1 << group;
                if !(edge.starts && edge.fresh && paths.ends[usize::from(node)]) {
                    refused[last as usize] |= 1 << group;
                }
            }
        }
        self.cuts = seen
            .iter()
            .zip(refused)
            .map(|(seen, refused)| seen & !refused)
            .collect();
        self.cuts[self.num_groups] = 0;
    }
}

/// A node and the groups of the two characters before it.
type Context = (u16, u8, u8);

/// The edges of the graph by group.
struct Paths<'a> {
    edges: Vec<Vec<(u8, Edge)>>,
    /// The groups that can follow each node, including the place after the end of the text.
    next: Vec<u32>,
    ends: &'a [bool],
    outside: u8,
    /// Two groups that follow each other in some text, and whether a word starts between them there.
    pairs: BTreeSet<(u8, u8, bool)>,
}

impl<'a> Paths<'a> {
    fn new(graph: &'a Graph, groups: &[u8], num_groups: usize) -> Self {
        let by_group = |edges: &Vec<Edge>| {
            let mut all: Vec<(u8, Edge)> = edges
                .iter()
                .map(|edge| (groups[usize::from(edge.symbol)], Edge { symbol: 0, ..*edge }))
                .collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let edges: Vec<_> = graph.edges.iter().map(by_group).collect();
        let follow = |(edges, &end): (&Vec<(u8, Edge)>, &bool)| {
            edges
                .iter()
                .fold(u32::from(end) << num_groups, |next, (group, _)| next | 1 << group)
        };
        let next = edges.iter().zip(&graph.ends).map(follow).collect();
        let mut pairs = BTreeSet::new();
        for &(left, edge) in edges.iter().flatten() {
            let after = edges[usize::from(edge.to)].iter();
            pairs.extend(after.map(|&(right, edge)| (left, right, edge.starts)));
        }
        Self {
            edges,
            next,
            pairs,
            ends: &graph.ends,
            outside: num_groups as u8,
        }
    }

    /// All nodes with the groups of the two characters before them.
    fn contexts(&self) -> Vec<Context> {
        let origin = (ORIGIN, self.outside, self.outside);
        let (mut all, mut known) = (vec![origin], HashSet::from([origin]));
        let mut at = 0;
        while let Some(&(node, _, last)) = all.get(at) {
            at += 1;
            for &(group, edge) in &self.edges[usize::from(node)] {
                let context = (edge.to, last, group);
                if known.insert(context) {
                    all.push(context);
                }
            }
        }
        all
    }

    /// The windows that begin with these two groups, with the edge to the third; only those in `allowed` come third.
    fn windows(&self, node: u16, before: u8, last: u8, allowed: u32) -> impl Iterator<Item = ([usize; 4], Edge)> {
        let edges = self.edges[usize::from(node)]
            .iter()
            .filter(move |(group, _)| allowed >> group & 1 == 1);
        edges.flat_map(move |&(group, edge)| {
            let next = self.next[usize::from(edge.to)];
            let after = (0..=usize::from(self.outside)).filter(move |after| next >> after & 1 == 1);
            after.map(move |after| ([before.into(), last.into(), group.into(), after], edge))
        })
    }
}

/// Put the symbols into groups. Letters are put together, unless they end a contraction after one apostrophe; all others
/// are only put together if the automata do not tell them apart. Any grouping is correct; a coarser one is less certain.
///
/// Returns the group of each symbol, and the groups of letters as a set.
fn groups(steps: &Steps, graph: &Graph) -> (Vec<u8>, u32) {
    let columns = |symbol: usize| graph.symbols[symbol];
    let is_letter = |symbol: usize| {
        let atom = columns(symbol).atom;
        let ascii = (0..128_u8).filter(|&code| steps.ascii_atoms[usize::from(code)] == atom);
        ascii.clone().all(|code| code.is_ascii_alphabetic())
    };
    let mut keys: Vec<Vec<u16>> = Vec::new();
    let mut groups = Vec::new();
    let letters: Vec<bool> = (0..graph.symbols.len()).map(is_letter).collect();
    for symbol in 0..graph.symbols.len() {
        let mut key = vec![u16::from(letters[symbol])];
        for step in &steps.steps {
            let column = |symbol: usize| match (step.on_bytes, columns(symbol).byte) {
                (true, Some(byte)) => byte,
                (true, None) => END,
                (false, _) => columns(symbol).atom,
            };
            let read = |state| step.automaton.step(state, column(symbol));
            if !letters[symbol] {
                key.extend((FIRST..step.automaton.len()).map(|state| {
                    let read = read(state);
                    u16::from(read.next) << 8 | read.ended.map_or(0, |kind| kind as u16 + 1)
                }));
                continue;
            }
            key.push(read(FIRST).next.into());
            let final_state = |state: u8| (0..END).all(|atom| step.automaton.step(state, atom).next == DEAD);
            let mut ends = vec![0_u16; 256];
            for other in (0..graph.symbols.len()).filter(|&other| !letters[other]) {
                for state in FIRST..step.automaton.len() {
                    let after = step.automaton.step(state, column(other)).next;
                    ends[usize::from(after)] =
                        u16::from(after != DEAD && final_state(read(after).next) && read(after).next != DEAD);
                }
            }
            key.extend(ends);
        }
        groups.push(keys.iter().position(|other| *other == key).unwrap_or(keys.len()) as u8);
        if usize::from(groups[symbol]) == keys.len() {
            keys.push(key);
        }
    }
    let letter_groups = groups.iter().zip(letters).filter(|(_, is_letter)| *is_letter);
    let letter_groups = letter_groups.fold(0, |set, (&group, _)| set | 1_u32.wrapping_shl(u32::from(group)));
    (groups, letter_groups)
}
