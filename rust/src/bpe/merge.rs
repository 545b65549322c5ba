//! Merging a word's bytes into tokens: the pair with the lowest rank first, the leftmost of equals, until none is left.
//!
//! Short words are merged on a small array; above `HEAP_FROM` bytes a heap keeps the cost at n log n, so that a megabyte
//! without a space takes no longer than its share.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::BuildHasherDefault;

use super::hash::MixHasher;

const HEAP_FROM: usize = 256;
const NONE: u32 = u32::MAX;

/// Which pairs of tokens merge, how early, and into what.
pub struct Merges {
    byte_ids: [u32; 256],
    pairs: HashMap<u64, (u32, u32), BuildHasherDefault<MixHasher>>,
}

impl Merges {
    /// From the id of each byte and, in order of rank, (left, right, merged) ids; a repeated pair keeps its last rank, as in
    /// the `tokenizers` crate.
    pub fn new(byte_ids: [u32; 256], merges: impl Iterator<Item = (u32, u32, u32)>) -> Self {
        let pairs = merges
            .zip(0..)
            .map(|((left, right, merged), rank)| (key(left, right), (rank, merged)))
            .collect();
        Self { byte_ids, pairs }
    }

    /// Append the tokens of one word.
    pub fn encode(&self, word: &[u8], ids: &mut Vec<u32>) {
        if word.len() >= HEAP_FROM {
            self.encode_long(word, ids);
            return;
        }
        let start = ids.len();
        ids.extend(word.iter().map(|&byte| self.byte_ids[usize::from(byte)]));
        let mut ranks = [(NONE, NONE); HEAP_FROM];
        for (slot, pair) in ranks.iter_mut().zip(ids[start..].windows(2)) {
            *slot = self.look_up(pair[0], pair[1]);
        }
        let mut len = word.len();
        while len > 1 {
            let (at, &(rank, merged)) = match ranks[..len - 1].iter().enumerate().min_by_key(|(_, pair)| pair.0) {
                Some(lowest) => lowest,
                None => break,
            };
            if rank == NONE {
                break;
            }
            let tokens = &mut ids[start..start + len];
            tokens[at] = merged;
            tokens.copy_within(at + 2.., at + 1);
            ranks.copy_within(at + 1..len - 1, at);
            len -= 1;
            if at > 0 {
                ranks[at - 1] = self.look_up(tokens[at - 1], merged);
            }
            if at + 1 < len {
                ranks[at] = self.look_up(merged, tokens[at + 1]);
            }
        }
        ids.truncate(start + len);
    }

    fn look_up(&self, left: u32, right: u32) -> (u32, u32) {
        self.pairs.get(&key(left, right)).copied().unwrap_or((NONE, NONE))
    }

    /// As `encode`, with the tokens in a linked list and the candidate pairs in a heap.
    fn encode_long(&self, word: &[u8], ids: &mut Vec<u32>) {
        let mut tokens: Vec<u32> = word.iter().map(|&byte| self.byte_ids[usize::from(byte)]).collect();
        let len = tokens.len();
        let mut next: Vec<usize> = (1..=len).collect();
        let mut previous: Vec<usize> = (0..len).map(|at| at.wrapping_sub(1)).collect();
        let mut heap: BinaryHeap<Reverse<(u32, usize, u64)>> = BinaryHeap::new();
        let push = |heap: &mut BinaryHeap<_>, tokens: &[u32], left: usize, right: usize| {
            let (rank, _) = self.look_up(tokens[left], tokens[right]);
            if rank != NONE {
                heap.push(Reverse((rank, left, key(tokens[left], tokens[right]))));
            }
        };
        for left in 0..len - 1 {
            push(&mut heap, &tokens, left, left + 1);
        }
        while let Some(Reverse((_, left, pair))) = heap.pop() {
            let right = next[left];
            if tokens[left] == NONE || right >= len || key(tokens[left], tokens[right]) != pair {
                continue; // one of the two has merged with another since
            }
            tokens[left] = self.look_up(tokens[left], tokens[right]).1;
            tokens[right] = NONE;
            next[left] = next[right];
            if next[left] < len {
                previous[next[left]] = left;
                push(&mut heap, &tokens, left, next[left]);
            }
            if left > 0 {
                push(&mut heap, &tokens, previous[left], left);
            }
        }
        ids.extend(tokens.into_iter().filter(|&id| id != NONE));
    }
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}
