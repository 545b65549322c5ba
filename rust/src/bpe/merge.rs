//! Merging a word's bytes into tokens: the pair with the lowest rank first, the leftmost of equals, until none is left.
//!
//! Short words are merged on a small array; from `HEAP_FROM` bytes on a heap keeps the cost at n log n, so that a megabyte
//! without a space takes no longer than its share. Every word begins as single bytes, so pairs of those have a table of
//! their own, read without hashing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::hash::mix;
use super::large;

const HEAP_FROM: usize = 256;
/// Most words are no longer; the array of their pairs is quickly cleared.
const USUAL: usize = 32;
/// Bits that tell hashes apart, per place of the table of pairs.
const HASHES_PER_PLACE: usize = 8;
const NONE: u64 = u64::MAX;
const GONE: u32 = u32::MAX;

/// A pair of tokens and what becomes of it.
#[derive(Clone, Copy)]
struct Pair {
    key: u64,
    /// Rank in the high half, merged token in the low one: the smallest merges first.
    merge: u64,
}

/// Which pairs of tokens merge, how early, and into what: a table with linear probing, less than half full. Most pairs that
/// are asked for merge into nothing; a bit per hash, in a table that stays in the cache, answers for nearly all of those.
pub struct Merges {
    byte_ids: [u32; 256],
    /// What becomes of bytes l and r, at 256 l + r.
    byte_pairs: Box<[u64]>,
    pairs: Box<[Pair]>,
    shift: u32,
    /// Bit h % 64 of entry h / 64 is set when the hash of some pair begins with h.
    hashes: Box<[u64]>,
    hashes_shift: u32,
}

impl Merges {
    /// From the id of each byte and, in order of rank, (left, right, merged) ids; a repeated pair keeps its last rank, as in
    /// the `tokenizers` crate.
    pub fn new(byte_ids: &[u32; 256], merges: &[(u32, u32, u32)]) -> Self {
        let bits = (2 * merges.len() + 2).next_power_of_two().ilog2();
        let hash_bits = bits + HASHES_PER_PLACE.ilog2();
        let empty = Pair { key: NONE, merge: NONE };
        let mut table = Self {
            byte_ids: *byte_ids,
            byte_pairs: Box::default(),
            pairs: large::table(empty, 1 << bits),
            shift: u64::BITS - bits,
            hashes: vec![0; (1 << hash_bits) / 64].into_boxed_slice(),
            hashes_shift: u64::BITS - hash_bits,
        };
        for (rank, &(left, right, merged)) in merges.iter().enumerate() {
            let key = key(left, right);
            let hash = mix(key);
            let (place, bit) = (table.place(key, hash), hash >> table.hashes_shift);
            table.hashes[bit as usize / 64] |= 1 << (bit % 64);
            let merge = (rank as u64) << 32 | u64::from(merged);
            table.pairs[place] = Pair { key, merge };
        }
        let byte_pair = |at: usize| table.look_up(byte_ids[at >> 8], byte_ids[at & 0xFF]);
        table.byte_pairs = (0..1 << 16).map(byte_pair).collect();
        table
    }

    /// Append the tokens of one word.
    pub fn encode(&self, word: &[u8], ids: &mut Vec<u32>) {
        match word.len() {
            0..=USUAL => self.encode_short::<USUAL>(word, ids),
            ..HEAP_FROM => self.encode_short::<HEAP_FROM>(word, ids),
            _ => self.encode_long(word, ids),
        }
    }

    /// As `encode`, for words up to `N` bytes. Nothing moves: a token that has merged with the one before it is passed over.
    fn encode_short<const N: usize>(&self, word: &[u8], ids: &mut Vec<u32>) {
        let len = word.len();
        let (mut tokens, mut merges) = ([0; N], [NONE; N]);
        let (mut next, mut previous) = ([0_u16; N], [0_u16; N]);
        for (at, &byte) in word.iter().enumerate() {
            tokens[at] = self.byte_ids[usize::from(byte)];
            (next[at], previous[at]) = (at as u16 + 1, (at as u16).wrapping_sub(1));
        }
        for (merge, pair) in merges.iter_mut().zip(word.windows(2)) {
            *merge = self.byte_pairs[usize::from(pair[0]) << 8 | usize::from(pair[1])];
        }
        loop {
            let (mut at, mut lowest) = (0, NONE);
            for (index, &merge) in merges[..len].iter().enumerate() {
                if merge < lowest {
                    (at, lowest) = (index, merge);
                }
            }
            if lowest == NONE {
                break;
            }
            let merged = lowest as u32;
            let gone = usize::from(next[at]);
            let (right, left) = (usize::from(next[gone]), usize::from(previous[at]));
            tokens[at] = merged;
            (merges[at], merges[gone]) = (NONE, NONE);
            next[at] = next[gone];
            if right < len {
                previous[right] = at as u16;
                merges[at] = self.look_up(merged, tokens[right]);
            }
            if at > 0 {
                merges[left] = self.look_up(tokens[left], merged);
            }
        }
        let mut at = 0;
        while at < len {
            ids.push(tokens[at]);
            at = usize::from(next[at]);
        }
    }

    /// As `encode`, with the tokens in a linked list and the candidate pairs in a heap.
    fn encode_long(&self, word: &[u8], ids: &mut Vec<u32>) {
        let mut tokens: Vec<u32> = word.iter().map(|&byte| self.byte_ids[usize::from(byte)]).collect();
        let len = tokens.len();
        let mut next: Vec<usize> = (1..=len).collect();
        let mut previous: Vec<usize> = (0..len).map(|at| at.wrapping_sub(1)).collect();
        let mut heap: BinaryHeap<Reverse<(u64, usize, u64)>> = BinaryHeap::new();
        let push = |heap: &mut BinaryHeap<_>, tokens: &[u32], left: usize, right: usize| {
            let merge = self.look_up(tokens[left], tokens[right]);
            if merge != NONE {
                heap.push(Reverse((merge, left, key(tokens[left], tokens[right]))));
            }
        };
        for left in 0..len - 1 {
            push(&mut heap, &tokens, left, left + 1);
        }
        while let Some(Reverse((merge, left, pair))) = heap.pop() {
            let right = next[left];
            if tokens[left] == GONE || right >= len || key(tokens[left], tokens[right]) != pair {
                continue; // one of the two has merged with another since
            }
            tokens[left] = merge as u32;
            tokens[right] = GONE;
            next[left] = next[right];
            if next[left] < len {
                previous[next[left]] = left;
                push(&mut heap, &tokens, left, next[left]);
            }
            if left > 0 {
                push(&mut heap, &tokens, previous[left], left);
            }
        }
        ids.extend(tokens.into_iter().filter(|&id| id != GONE));
    }

    #[inline]
    fn look_up(&self, left: u32, right: u32) -> u64 {
        let key = key(left, right);
        let hash = mix(key);
        let bit = hash >> self.hashes_shift;
        if self.hashes[bit as usize / 64] >> (bit % 64) & 1 == 0 {
            return NONE;
        }
        self.pairs[self.place(key, hash)].merge
    }

    /// Where the pair is, or would be.
    #[inline]
    fn place(&self, key: u64, hash: u64) -> usize {
        let mut place = (hash >> self.shift) as usize;
        while self.pairs[place].key != key && self.pairs[place].key != NONE {
            place = (place + 1) & (self.pairs.len() - 1);
        }
        place
    }
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}
