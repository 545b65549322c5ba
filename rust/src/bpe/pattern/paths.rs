//! The ways through the graph of a pre-tokenizer, in groups of characters.

use std::collections::{BTreeSet, HashSet};

use super::graph::{Edge, Graph, ORIGIN};

/// A node and the groups of the two characters before it.
pub type Context = (u16, u8, u8);

/// The edges of the graph by group.
pub struct Paths<'a> {
    /// The edges of each node, with the group that they read.
    pub edges: Vec<Vec<(u8, Edge)>>,
    /// The groups that can follow each node, including the place after the end of the text.
    next: Vec<u32>,
    /// Whether the text may end at each node.
    pub ends: &'a [bool],
    outside: u8,
    /// Two groups that follow each other in some text, and whether a word starts between them there.
    pub pairs: BTreeSet<(u8, u8, bool)>,
}

impl<'a> Paths<'a> {
    /// Sort the edges of a graph by the groups of its symbols.
    pub fn new(graph: &'a Graph, groups: &[u8], num_groups: usize) -> Self {
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
    pub fn contexts(&self) -> Vec<Context> {
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
    pub fn windows(&self, node: u16, before: u8, last: u8, allowed: u32) -> impl Iterator<Item = ([usize; 4], Edge)> {
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
