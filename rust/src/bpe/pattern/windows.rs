//! What the classes of the two characters before and of the one after tell about a character: whether a word starts
//! there, or that only a reader can tell.
//!
//! Atoms are put into groups, to keep the tables small. A window of four groups is certain if all ways through the graph
//! agree. Ways that went through a window that is not certain need not be followed further, because a reader takes over
//! there, until a place where the text may be cut.

use std::collections::HashMap;

use super::graph::{Graph, ORIGIN};
use super::groups::groups;
use super::paths::{Context, Paths};
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
