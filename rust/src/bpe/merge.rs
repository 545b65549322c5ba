//! Merge the bytes or characters of a word into tokens: the pair with the lowest rank first, the leftmost if equal, until no pair
//! merges.
//!
//! Short words are merged in a small array, words above `LONGEST_SHORT` tokens by `long`. Most words begin as single
//! bytes, so pairs of bytes have their own table, which needs no hashing.

use super::cache::Id;
use super::hash::mix;
use super::{large, long};

const LONGEST_SHORT: usize = 256;
/// Most words are no longer than this; their small array is cleared quickly.
const USUAL: usize = 32;
/// Bits of the table of hashes, per place of the table of pairs.
const HASHES_PER_PLACE: usize = 8;
/// Stands for the merge of a pair that does not merge.
pub const NONE: u64 = u64::MAX;

/// A pair of tokens and its merge.
#[derive(Clone, Copy)]
struct Pair {
    key: u64,
    /// The rank in the high half and the merged token in the low half, so the smallest value merges first.
    merge: u64,
}

/// The pairs of tokens that merge, each with its rank and the merged token. The table uses linear probing and is less
/// than half full. Most pairs that are looked up do not merge; a second table, which has one bit per hash and stays in
/// the processor's cache, rejects nearly all of them.
pub struct Merges {
    byte_ids: [u32; 256],
    /// The merge of bytes l and r, at 256 l + r.
    byte_pairs: Box<[u64]>,
    pairs: Box<[Pair]>,
    shift: u32,
    /// Bit h % 64 of entry h / 64 is set if the hash of some pair begins with h.
    hashes: Box<[u64]>,
    hashes_shift: u32,
}

impl Merges {
    /// Make the tables from the id of each byte and, in order of rank, the ids (left, right, merged). A repeated pair
    /// keeps its last rank, as in the `tokenizers` crate.
    pub fn new(byte_ids: &[u32; 256], merges: &[(u32, u32, u32)]) -> Self {
        let bits = (2 * merges.len() + 2).next_power_of_two().ilog2();
        let hash_bits = (bits + HASHES_PER_PLACE.ilog2()).max(u64::BITS.ilog2()); // at least one entry
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

    /// Append the tokens of one word, which begins as one token per byte.
    pub fn encode<T: Id>(&self, word: &[u8], ids: &mut Vec<T>) {
        let symbols = word.iter().map(|&byte| self.byte_id(byte));
        let pairs = word
            .windows(2)
            .map(|pair| self.byte_pairs[usize::from(pair[0]) << 8 | usize::from(pair[1])]);
        self.encode_symbols(symbols, pairs, ids);
    }

    /// Append the tokens of one word, which begins as these tokens.
    pub fn merge<T: Id>(&self, symbols: &[u32], ids: &mut Vec<T>) {
        let pairs = symbols.windows(2).map(|pair| self.look_up(pair[0], pair[1]));
        self.encode_symbols(symbols.iter().copied(), pairs, ids);
    }

    /// Append the tokens of a word with these first tokens and the merges of each pair of them.
    fn encode_symbols<T: Id>(
        &self,
        symbols: impl ExactSizeIterator<Item = u32>,
        pairs: impl Iterator<Item = u64>,
        ids: &mut Vec<T>,
    ) {
        if symbols.len() <= USUAL {
            self.encode_short::<USUAL, T>(symbols, pairs, ids);
        } else if symbols.len() <= LONGEST_SHORT {
            self.encode_short::<LONGEST_SHORT, T>(symbols, pairs, ids);
        } else {
            long::encode(self, symbols.collect(), ids);
        }
    }

    /// Like `encode_symbols`, for words of up to `N` tokens. Tokens stay in place: a token that merged into the one
    /// before it is skipped.
    fn encode_short<const N: usize, T: Id>(
        &self,
        symbols: impl ExactSizeIterator<Item = u32>,
        pairs: impl Iterator<Item = u64>,
        ids: &mut Vec<T>,
    ) {
        let len = symbols.len();
        let (mut tokens, mut candidates) = ([0; N], [NONE; N]);
        let (mut next, mut previous) = ([0_u16; N], [0_u16; N]);
        for (at, symbol) in symbols.enumerate() {
            tokens[at] = symbol;
            (next[at], previous[at]) = (at as u16 + 1, (at as u16).wrapping_sub(1));
        }
        for (merge, pair) in candidates.iter_mut().zip(pairs) {
            *merge = pair;
        }
        loop {
            let (mut at, mut lowest) = (0, NONE);
            for (index, &merge) in candidates[..len].iter().enumerate() {
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
            (candidates[at], candidates[gone]) = (NONE, NONE);
            next[at] = next[gone];
            if right < len {
                previous[right] = at as u16;
                candidates[at] = self.look_up(merged, tokens[right]);
            }
            if at > 0 {
                candidates[left] = self.look_up(tokens[left], merged);
            }
        }
        let mut at = 0;
        while at < len {
            ids.push(T::of(tokens[at]));
            at = usize::from(next[at]);
        }
    }

    /// The token of a byte.
    #[inline]
    pub fn byte_id(&self, byte: u8) -> u32 {
        self.byte_ids[usize::from(byte)]
    }

    /// The rank in the high half and the merged token in the low half; `NONE` for a pair that does not merge.
    #[inline]
    pub fn look_up(&self, left: u32, right: u32) -> u64 {
        let key = key(left, right);
        let hash = mix(key);
        let bit = hash >> self.hashes_shift;
        if self.hashes[bit as usize / 64] >> (bit % 64) & 1 == 0 {
            return NONE;
        }
        self.pairs[self.place(key, hash)].merge
    }

    /// The place of the pair, or the empty place where it would be.
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
