//! Merge a word of any length in n log n steps, with eight bytes of memory per byte or character of the word, so that
//! megabytes without a space are not slower per byte than other text.
//!
//! Each token is stored at the place of its first symbol; the places after it hold its length. A tree of the lowest ranks
//! finds the next pair. The word cannot be cut into parts, because a merge may depend on symbols at any distance.

use super::cache::Id;
use super::merge::Merges;

/// Children of a node of the tree, which keeps the lowest rank among them.
const FAN_OUT: usize = 64;
const NO_RANK: u32 = u32::MAX;
/// Marks a place inside a token. All ids are below it.
pub const INSIDE: u32 = 1 << 31;

/// Append the tokens of a word, which begins as these tokens.
pub fn encode<T: Id>(merges: &Merges, symbols: Vec<u32>, ids: &mut Vec<T>) {
    let mut tokens = Tokens(symbols);
    let len = tokens.0.len();
    let rank = |tokens: &Tokens, left: usize| match tokens.pair(left) {
        Some((first, second)) => (merges.look_up(first, second) >> 32) as u32,
        None => NO_RANK,
    };
    let mut lowest = Lowest::new((0..len).map(|at| rank(&tokens, at)).collect());
    while let Some(left) = lowest.first() {
        let Some((first, second)) = tokens.pair(left) else {
            break; // unreachable: the last token has no rank
        };
        let right = tokens.next(left);
        tokens.merge(left, merges.look_up(first, second) as u32);
        lowest.set(right, NO_RANK);
        lowest.set(left, rank(&tokens, left));
        if let Some(previous) = tokens.previous(left) {
            lowest.set(previous, rank(&tokens, previous));
        }
    }
    let mut at = 0;
    while at < len {
        ids.push(T::of(tokens.0[at]));
        at = tokens.next(at);
    }
}

/// The token that begins at each place. For a token of several places, the second and the last place hold its length,
/// marked by `INSIDE`; the places between are marked too, but their values are stale.
struct Tokens(Vec<u32>);

impl Tokens {
    /// The token at `left` and the one after it.
    fn pair(&self, left: usize) -> Option<(u32, u32)> {
        Some((self.0[left], *self.0.get(self.next(left))?))
    }

    fn next(&self, at: usize) -> usize {
        match self.0.get(at + 1) {
            Some(inside) if inside & INSIDE != 0 => at + (inside ^ INSIDE) as usize,
            _ => at + 1,
        }
    }

    fn previous(&self, at: usize) -> Option<usize> {
        let last = at.checked_sub(1)?;
        let inside = self.0[last];
        Some(if inside & INSIDE == 0 {
            last
        } else {
            at - (inside ^ INSIDE) as usize
        })
    }

    /// Merge the token at `left` and the next one into `token`.
    fn merge(&mut self, left: usize, token: u32) {
        let right = self.next(left);
        let end = self.next(right);
        self.0[left] = token;
        self.0[right] = INSIDE;
        let len = INSIDE | (end - left) as u32;
        (self.0[left + 1], self.0[end - 1]) = (len, len);
    }
}

/// A tree: the ranks of all places, and above them, level by level, the lowest of every `FAN_OUT`.
struct Lowest(Vec<Vec<u32>>);

impl Lowest {
    fn new(ranks: Vec<u32>) -> Self {
        let mut levels = vec![ranks];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            levels.push(below.chunks(FAN_OUT).map(lowest).collect());
        }
        Self(levels)
    }

    /// The place of the lowest rank, the leftmost if equal; None if no place has a rank.
    fn first(&self) -> Option<usize> {
        let rank = *self.0.last()?.first()?;
        let below = self.0.iter().rev().skip(1);
        (rank != NO_RANK).then(|| below.fold(0, |at, level| at * FAN_OUT + offset(children(level, at), rank)))
    }

    fn set(&mut self, mut place: usize, rank: u32) {
        let mut old = std::mem::replace(&mut self.0[0][place], rank);
        for above in 1..self.0.len() {
            let group = place / FAN_OUT;
            let (known, new) = (self.0[above][group], self.0[above - 1][place]);
            // The level above only changes if this was the lowest rank, or is now.
            if new >= known && old > known {
                return;
            }
            let updated = if new <= known {
                new
            } else {
                lowest(children(&self.0[above - 1], group))
            };
            self.0[above][group] = updated;
            (place, old) = (group, known);
        }
    }
}

fn children(level: &[u32], parent: usize) -> &[u32] {
    &level[parent * FAN_OUT..level.len().min((parent + 1) * FAN_OUT)]
}

fn lowest(ranks: &[u32]) -> u32 {
    ranks.iter().copied().min().unwrap_or(NO_RANK)
}

fn offset(ranks: &[u32], rank: u32) -> usize {
    ranks.iter().position(|&other| other == rank).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe::merge::NONE;
    use proptest::prelude::*;

    /// The definition itself: merge the lowest pair, the leftmost if equal, until no pair merges.
    fn by_definition(merges: &Merges, word: &[u8]) -> Vec<u32> {
        let mut tokens: Vec<u32> = word.iter().map(|&byte| merges.byte_id(byte)).collect();
        loop {
            let pairs = tokens.windows(2).map(|pair| merges.look_up(pair[0], pair[1]));
            let Some((merge, at)) = pairs.zip(0..).min().filter(|&(merge, _)| merge != NONE) else {
                return tokens;
            };
            tokens.splice(at..at + 2, [merge as u32]);
        }
    }

    proptest! {
        /// For any table, including pairs that rank before the merges that make their parts, and pairs that merge into
        /// an existing token.
        #[test]
        fn every_implementation_of_merging_gives_the_same_tokens(
            table in prop::collection::vec((0_u32..9, 0_u32..9, 0_u32..9), 0..30),
            word in prop::collection::vec(0_u8..4, 1..700),
        ) {
            let merges = Merges::new(&std::array::from_fn(|byte| byte as u32), &table);
            let expected = by_definition(&merges, &word);
            let mut ids: Vec<u32> = Vec::new();
            let symbols: Vec<u32> = word.iter().map(|&byte| merges.byte_id(byte)).collect();
            encode(&merges, symbols.clone(), &mut ids);
            prop_assert_eq!(&ids, &expected);
            ids.clear();
            merges.merge(&symbols, &mut ids);
            prop_assert_eq!(&ids, &expected);
            ids.clear();
            merges.encode(&word, &mut ids);
            prop_assert_eq!(&ids, &expected);
        }
    }

    #[test]
    fn the_lowest_of_many_levels_is_found() {
        let mut ranks: Vec<u32> = (0..300_000_u32).map(|at| at.wrapping_mul(0x9E37_79B9) >> 4).collect();
        let mut tree = Lowest::new(ranks.clone());
        for step in 0..3_000_u32 {
            let expected = (0..ranks.len())
                .min_by_key(|&at| (ranks[at], at))
                .filter(|&at| ranks[at] != NO_RANK);
            assert_eq!(tree.first(), expected);
            let place = if step.is_multiple_of(3) {
                (step * 97) as usize
            } else {
                expected.unwrap_or_default()
            };
            let rank = if step.is_multiple_of(5) {
                step
            } else {
                NO_RANK - step % 2
            };
            ranks[place] = rank;
            tree.set(place, rank);
        }
    }
}
