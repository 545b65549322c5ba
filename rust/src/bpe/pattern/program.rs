//! Compute for several blocks of 64 bytes at a time where words start, from masks of the sets of groups of their
//! characters.

use super::lanes::{BLOCKS, Row, Table, all_if};
use super::terms::{self, Term};
use super::windows::{Start, Windows};
use crate::bpe::masks::LANES;

/// Largest number of sets at all places of the window.
const MAX_VALUES: usize = 256;

/// The products of `terms` as a program: first each set is shifted to its place in the window, then the products are
/// taken.
#[derive(Default)]
pub struct Program {
    pub table: Table,
    /// The numbers of the sets that are needed at each place.
    places: [Vec<u8>; 4],
    /// The numbers of the factors of each product. Number 0 is all ones, and the sets at the places come after it.
    starts: Vec<[u8; 4]>,
    unknown: Vec<[u8; 4]>,
}

/// The mutable data of a scan. The masks of `BLOCKS` blocks are computed together: of each set, and of each factor.
pub struct State {
    /// The masks of each set.
    pub rows: Vec<Row>,
    /// The bytes of characters that only a reader can judge.
    pub strange: Row,
    /// The masks of each factor of the products. The first is all ones.
    values: Vec<[u64; BLOCKS]>,
}

impl State {
    /// Go on to the next blocks: the last block becomes the one before them.
    pub fn advance(&mut self) {
        for row in self.rows.iter_mut().chain([&mut self.strange]) {
            row[0] = row[BLOCKS];
        }
        self.strange[1..].fill(0);
    }
}

impl Program {
    /// Make the program. None if it needs too many sets.
    pub fn new(windows: &Windows) -> Option<Self> {
        let certain = terms::cover(windows, |start| match start {
            Start::Yes => Some(true),
            Start::No => Some(false),
            Start::Unseen | Start::Unknown => None,
        });
        let unknown = terms::cover(windows, |start| match start {
            Start::Unknown => Some(true),
            Start::Yes | Start::No => Some(false),
            Start::Unseen => None,
        });
        let all = (1 << (windows.outside() + 1)) - 1;
        let (mut sets, mut places): (Vec<u32>, [Vec<u8>; 4]) = Default::default();
        for term in certain.iter().chain(&unknown) {
            for (place, &set) in term.iter().enumerate().filter(|(_, set)| **set != all) {
                let number = sets.iter().position(|other| *other == set).unwrap_or(sets.len());
                if number == sets.len() {
                    sets.push(set);
                }
                if !places[place].contains(&(number as u8)) {
                    places[place].push(number as u8);
                }
            }
        }
        let factors = |term: &Term| {
            std::array::from_fn(|place| {
                let before: usize = places[..place].iter().map(Vec::len).sum();
                let known = places[place]
                    .iter()
                    .position(|&number| sets[usize::from(number)] == term[place]);
                known.map_or(0, |at| 1 + before + at) as u8
            })
        };
        let num_values: usize = 1 + places.iter().map(Vec::len).sum::<usize>();
        let (starts, unknown) = (
            certain.iter().map(factors).collect(),
            unknown.iter().map(factors).collect(),
        );
        let table = Table::new(&windows.ascii_groups, windows.outside(), sets)?;
        (num_values <= MAX_VALUES).then_some(Self {
            table,
            places,
            starts,
            unknown,
        })
    }

    /// The state at the beginning of a text.
    pub fn state(&self) -> State {
        let mut rows = vec![Row::default(); self.table.num_rows()];
        for (row, &set) in rows.iter_mut().zip(&self.table.sets) {
            row[BLOCKS] = all_if(self.has_outside(set));
        }
        let num_values = 1 + self.places.iter().map(Vec::len).sum::<usize>();
        State {
            rows,
            strange: Row::default(),
            values: vec![[u64::MAX; BLOCKS]; num_values],
        }
    }

    fn has_outside(&self, set: u32) -> bool {
        set >> self.table.outside & 1 == 1
    }

    /// Put some bytes of a block, whose character is of a group, into the masks.
    pub fn add(&self, rows: &mut [Row], block: usize, group: u8, bits: u64) {
        for (row, set) in rows.iter_mut().zip(&self.table.sets) {
            row[block] |= bits & all_if(set >> group & 1 == 1);
        }
    }

    /// End the text after `len` bytes of the blocks.
    pub fn end(&self, rows: &mut [Row], len: usize) {
        for (row, &set) in rows.iter_mut().zip(&self.table.sets) {
            let outside = all_if(self.has_outside(set));
            for (block, mask) in row[1..=BLOCKS].iter_mut().enumerate().skip(len / LANES) {
                let inside = first_bits(len - (block * LANES).min(len));
                *mask = *mask & inside | outside & !inside;
            }
        }
    }

    /// For each block, the bytes where a word starts, and those where that is unknown. `after` is the group of the first
    /// character after the blocks, as a set, which is empty if only a reader can judge it.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
    pub fn evaluate(&self, state: &mut State, after: u32) -> [[u64; BLOCKS]; 2] {
        let State { rows, strange, values } = state;
        for (row, set) in rows.iter_mut().zip(&self.table.sets) {
            row[BLOCKS + 1] = u64::from(set & after != 0);
        }
        strange[BLOCKS + 1] = u64::from(after == 0);
        let mut values_left = values.iter_mut().skip(1);
        for (place, sets) in self.places.iter().enumerate() {
            for (&set, value) in sets.iter().zip(&mut values_left) {
                *value = neighbors(&rows[usize::from(set)], place);
            }
        }
        let [starts, mut unknown] = [&self.starts, &self.unknown].map(|terms| sum_of_products(terms, values));
        for place in 0..self.places.len() {
            let masks = neighbors(strange, place);
            for (unknown, mask) in unknown.iter_mut().zip(masks) {
                *unknown |= mask;
            }
        }
        [starts, unknown]
    }
}

/// For each byte of the blocks, the bit of its neighbor at a place of the window: 0 and 1 are the bytes before it, 2 is
/// the byte itself, 3 is the byte after it.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
fn neighbors(row: &Row, place: usize) -> [u64; BLOCKS] {
    let mut masks = [0; BLOCKS];
    for (block, mask) in masks.iter_mut().enumerate() {
        let (before, own, after) = (row[block], row[block + 1], row[block + 2]);
        *mask = match place {
            0 => own << 2 | before >> (LANES - 2),
            1 => own << 1 | before >> (LANES - 1),
            2 => own,
            _ => own >> 1 | after << (LANES - 1),
        };
    }
    masks
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
fn sum_of_products(terms: &[[u8; 4]], values: &[[u64; BLOCKS]]) -> [u64; BLOCKS] {
    let mut sum = [0; BLOCKS];
    for factors in terms {
        let [a, b, c, d] = factors.map(|factor| &values[usize::from(factor)]);
        for (block, sum) in sum.iter_mut().enumerate() {
            *sum |= a[block] & b[block] & c[block] & d[block];
        }
    }
    sum
}

/// A mask of the first `count` bits, of all if there are no more.
pub fn first_bits(count: usize) -> u64 {
    if count < LANES { (1 << count) - 1 } else { u64::MAX }
}
