//! Compute for 64 bytes at a time where words start, from masks of the sets of groups of their characters.

use super::lanes::{MAX_SETS, SetMasks, Table};
use super::terms::{self, Term};
use super::windows::{Start, Windows};
use crate::bpe::masks::LANES;

/// Largest number of sets at all places of the window, a power of two.
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

/// The mutable data of a scan.
pub struct State {
    /// The masks of the block, and of the block before it, in turns.
    masks: [SetMasks; 2],
    turn: usize,
    values: [u64; MAX_VALUES],
}

impl State {
    /// The masks of the next block.
    #[inline]
    pub fn masks(&mut self) -> &mut SetMasks {
        &mut self.masks[self.turn]
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
        let mut before = [0; MAX_SETS];
        for (mask, set) in before.iter_mut().zip(&self.table.sets) {
            *mask = 0_u64.wrapping_sub(u64::from(set >> self.table.outside & 1));
        }
        State {
            masks: [[0; MAX_SETS], before],
            turn: 0,
            values: [u64::MAX; MAX_VALUES],
        }
    }

    /// Put some bytes, whose character is of a group, into the masks.
    pub fn add(&self, masks: &mut SetMasks, group: u8, bits: u64) {
        for (mask, set) in masks.iter_mut().zip(&self.table.sets) {
            *mask |= bits & 0_u64.wrapping_sub(u64::from(set >> group & 1));
        }
    }

    /// The bytes where a word starts, and those where that is unknown. `after` is the group of the first character after
    /// the block, as a set.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
    pub fn evaluate(&self, state: &mut State, after: u32) -> (u64, u64) {
        let State { masks, turn, values } = state;
        let (masks, before) = (&masks[*turn % 2], &masks[1 - *turn % 2]);
        let [first, second, third, fourth] = &self.places;
        let number = |set: u8| usize::from(set) % MAX_SETS;
        let mut values_left = values.iter_mut().skip(1);
        for (&set, value) in first.iter().zip(&mut values_left) {
            *value = masks[number(set)] << 2 | before[number(set)] >> (LANES - 2);
        }
        let mut values_left = values.iter_mut().skip(1 + first.len());
        for (&set, value) in second.iter().zip(&mut values_left) {
            *value = masks[number(set)] << 1 | before[number(set)] >> (LANES - 1);
        }
        let mut values_left = values.iter_mut().skip(1 + first.len() + second.len());
        for (&set, value) in third.iter().zip(&mut values_left) {
            *value = masks[number(set)];
        }
        let mut values_left = values.iter_mut().skip(1 + first.len() + second.len() + third.len());
        for (&set, value) in fourth.iter().zip(&mut values_left) {
            let follows = u64::from(self.table.sets[usize::from(set)] & after != 0);
            *value = masks[number(set)] >> 1 | follows << (LANES - 1);
        }
        let product = |factors: &[u8; 4]| {
            let [a, b, c, d] = factors.map(|set| values[usize::from(set) % MAX_VALUES]);
            a & b & c & d
        };
        let sum = |terms: &[[u8; 4]]| terms.iter().fold(0, |sum, factors| sum | product(factors));
        let found = (sum(&self.starts), sum(&self.unknown));
        *turn = 1 - *turn % 2;
        found
    }
}
