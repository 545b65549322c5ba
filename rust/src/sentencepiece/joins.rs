//! Where a text may be cut before merging: at every place that no merge can cross.
//!
//! A merge joins a token that ends with some character and one that begins with some character. So the merges
//! themselves say which pairs of characters a merge can ever join, as last character of the left token and first
//! character of the right one. Between two characters that are no such pair, no merge ever happens: the tokens on both
//! sides are those of each side alone, because the merges of one side neither see nor change the other, and among
//! themselves they keep their order. Most texts have such a place every few characters.

use crate::bpe::LANES;
use crate::bpe::hash::mix_both;

/// Bits of the table for characters beyond ASCII. A pair that shares its bit with a pair that joins is not cut, which
/// costs time but changes no id.
const TABLE_BITS: u32 = 20;

/// The pairs of characters that a merge can join.
pub struct Joins {
    /// Bit c of entry b is set if no merge joins the ASCII characters b and c.
    ascii: [[u64; 2]; 128],
    /// Bit h is set if h is the hash of a pair that a merge can join.
    table: Box<[u64]>,
    blank: char,
    splits: bool,
}

impl Joins {
    /// Make the tables from the pairs. A space in a text counts as `blank`. With `splits`, a text is always cut before a
    /// blank, whatever the merges say.
    pub fn new(pairs: impl Iterator<Item = (char, char)>, blank: char, splits: bool) -> Self {
        let mut joins = Self {
            ascii: [[u64::MAX; 2]; 128],
            table: vec![0; (1 << TABLE_BITS) / 64].into_boxed_slice(),
            blank,
            splits,
        };
        // A space becomes a blank, so no text has a space of its own.
        let usual = |character: char| character != ' ' || blank == ' ';
        for (left, right) in pairs.filter(|&(left, right)| usual(left) && usual(right)) {
            let hash = hash(left, right);
            joins.table[hash / 64] |= 1 << (hash % 64);
            for left in joins.ascii_forms(left) {
                for right in joins.ascii_forms(right) {
                    if !(splits && right == b' ') {
                        joins.ascii[usize::from(left)][usize::from(right >> 6)] &= !(1 << (right & 63));
                    }
                }
            }
        }
        joins
    }

    /// The ASCII characters of a text that count as this character: itself, and for a blank the space.
    fn ascii_forms(&self, character: char) -> impl Iterator<Item = u8> + use<> {
        let itself = u8::try_from(character).ok().filter(u8::is_ascii);
        itself
            .into_iter()
            .chain((character == self.blank && character != ' ').then_some(b' '))
    }

    /// Whether a merge may join these two characters of a text.
    #[inline]
    pub fn can_join(&self, left: char, right: char) -> bool {
        if left.is_ascii() && right.is_ascii() {
            return !self.ends_between(left as u8, right as u8);
        }
        let [left, right] = [left, right].map(|character| if character == ' ' { self.blank } else { character });
        let hash = hash(left, right);
        self.table[hash / 64] >> (hash % 64) & 1 == 1 && !(self.splits && right == self.blank)
    }

    /// Whether no merge joins these two ASCII characters.
    #[inline]
    fn ends_between(&self, left: u8, right: u8) -> bool {
        let row = &self.ascii[usize::from(left & 127)];
        row[usize::from(right >> 6 & 1)] >> (right & 63) & 1 == 1
    }

    /// Find the places where a text may be cut: bit i of entry c tells it of the place before byte 64 c + i. The first
    /// bit says nothing.
    pub fn find_starts(&self, text: &str, starts: &mut Vec<u64>) {
        starts.clear();
        let (mut before, mut next) = ('\0', 0);
        for (index, chunk) in text.as_bytes().chunks(LANES).enumerate() {
            let base = index * LANES;
            if before.is_ascii() && chunk.is_ascii() {
                starts.push(self.ascii_starts(before as u8, chunk));
                before = chunk[chunk.len() - 1].into();
                continue;
            }
            let (mut mask, end) = (0, base + chunk.len());
            next = base.max(next);
            while next < end {
                let Some(character) = text[next..].chars().next() else {
                    break; // unreachable: `next` is inside the text
                };
                mask |= u64::from(!self.can_join(before, character)) << (next - base);
                before = character;
                next += character.len_utf8();
            }
            starts.push(mask);
        }
    }

    /// The places of up to 64 ASCII characters.
    #[inline]
    fn ascii_starts(&self, mut before: u8, chunk: &[u8]) -> u64 {
        let mut mask = 0;
        for (at, &byte) in chunk.iter().enumerate() {
            mask |= u64::from(self.ends_between(before, byte)) << at;
            before = byte;
        }
        mask
    }

    /// The end of the first part of a text, before the first place where it may be cut.
    pub fn first_end(&self, text: &str) -> usize {
        let mut characters = text.char_indices();
        let mut before = characters.next().map(|(_, character)| character);
        for (at, character) in characters {
            if before.is_some_and(|before| !self.can_join(before, character)) {
                return at;
            }
            before = Some(character);
        }
        text.len()
    }
}

fn hash(left: char, right: char) -> usize {
    (mix_both(left.into(), right.into()) >> (u64::BITS - TABLE_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHARACTERS: [char; 9] = [
        'a',
        'b',
        ' ',
        '\u{2581}',
        '\n',
        '\u{e9}',
        '\u{4e1c}',
        '\u{1f600}',
        '\u{301}',
    ];

    proptest! {
        #[test]
        fn the_masks_are_those_of_the_pairs(
            pairs in prop::collection::vec((0..9_usize, 0..9_usize), 0..40),
            picks in prop::collection::vec(0..9_usize, 0..200),
            before in 0..70_usize,
            splits: bool,
        ) {
            let pairs: Vec<_> = pairs.into_iter().map(|(left, right)| (CHARACTERS[left], CHARACTERS[right])).collect();
            let blank = '\u{2581}';
            let joins = Joins::new(pairs.iter().copied(), blank, splits);
            let text: String = "a".repeat(before).chars().chain(picks.into_iter().map(|pick| CHARACTERS[pick])).collect();
            let mut starts = Vec::new();
            joins.find_starts(&text, &mut starts);
            prop_assert_eq!(starts.len(), text.len().div_ceil(LANES));
            let mut characters = text.char_indices();
            let mut left = characters.next().map_or('a', |(_, character)| character);
            let as_blank = |character| if character == ' ' { blank } else { character };
            for (at, right) in characters {
                let cut = starts[at / LANES] >> (at % LANES) & 1 == 1;
                let pair = (as_blank(left), as_blank(right));
                let joined = pairs.contains(&pair) && !(splits && pair.1 == blank);
                prop_assert_eq!(cut, !joined, "{:?} {:?}", left, right);
                left = right;
            }
            let num_characters = text.chars().count() as u32;
            let num_cuts: u32 = starts.iter().map(|mask| mask.count_ones()).sum();
            prop_assert!(num_cuts <= num_characters);
        }
    }
}
