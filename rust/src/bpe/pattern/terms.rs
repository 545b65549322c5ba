//! Turn a table of windows into few products of sets, which can be computed for 64 characters at a time.

use std::collections::BTreeSet;

use super::windows::{Start, Windows};

/// Orders in which the places of a product are tried.
const ORDERS: [[usize; 4]; 6] = [
    [3, 0, 1, 2],
    [0, 3, 1, 2],
    [2, 1, 3, 0],
    [1, 0, 3, 2],
    [3, 2, 0, 1],
    [0, 1, 2, 3],
];

/// One product: a window is in it if each of its four groups is in the set for its place.
pub type Term = [u32; 4];

/// Products whose union has all windows for which `wanted` is `Some(true)`, and none for which it is `Some(false)`.
pub fn cover(windows: &Windows, wanted: impl Fn(Start) -> Option<bool>) -> Vec<Term> {
    let size = windows.outside() + 1;
    let grid = Grid::new(windows, size, wanted);
    let mut open = grid.on.clone();
    let (mut terms, mut sets) = (Vec::new(), BTreeSet::new());
    while let Some(place) = open.iter().position(|&row| row != 0) {
        let row = [place / size / size, place / size % size, place % size];
        let first = [row[0], row[1], row[2], open[place].trailing_zeros() as usize];
        let candidates = ORDERS.into_iter().flat_map(|order| {
            [
                grid.grow(first, order, &sets),
                grid.grow(first, order, &BTreeSet::new()),
            ]
        });
        // Sets that are used already cost nothing, so a smaller product of these is better.
        let value = |term: &Term| {
            let new = term.iter().filter(|set| !sets.contains(*set)).count();
            grid.count(term, &open) * 60 / (new as u32 + 3)
        };
        let Some(term) = candidates.max_by_key(value) else {
            break;
        };
        for place in grid.rows(&term) {
            open[place] &= !term[3];
        }
        sets.extend(term);
        terms.push(term);
    }
    terms
}

/// Rows of windows by their first three groups; the bits of a row are the last group.
struct Grid {
    size: usize,
    on: Vec<u32>,
    off: Vec<u32>,
}

impl Grid {
    fn new(windows: &Windows, size: usize, wanted: impl Fn(Start) -> Option<bool>) -> Self {
        let (mut on, mut off) = (vec![0; size.pow(3)], vec![0; size.pow(3)]);
        for place in 0..size.pow(3) {
            for last in 0..size {
                let window = [place / size / size, place / size % size, place % size, last];
                match wanted(windows.start(window)) {
                    Some(true) => on[place] |= 1 << last,
                    Some(false) => off[place] |= 1 << last,
                    None => {}
                }
            }
        }
        Self { size, on, off }
    }

    /// The rows of a product.
    fn rows(&self, term: &Term) -> impl Iterator<Item = usize> {
        let size = self.size;
        let members = move |set: u32| (0..size).filter(move |&group| set >> group & 1 == 1);
        let [first, second, third, _] = *term;
        members(first).flat_map(move |a| {
            members(second).flat_map(move |b| members(third).map(move |c| (a * size + b) * size + c))
        })
    }

    fn count(&self, term: &Term, rows: &[u32]) -> u32 {
        self.rows(term).map(|place| (rows[place] & term[3]).count_ones()).sum()
    }

    /// Whether a product has no unwanted window.
    fn fits(&self, term: &Term) -> bool {
        self.rows(term).all(|place| self.off[place] & term[3] == 0)
    }

    /// Grow a product around a window as far as it has no unwanted window, place by place in this order: to the largest of
    /// the known sets that is possible, or else group by group.
    fn grow(&self, window: [usize; 4], order: [usize; 4], sets: &BTreeSet<u32>) -> Term {
        let mut term = window.map(|group| 1 << group);
        for place in order {
            let own = term[place];
            let with = |set: u32| {
                let mut wider = term;
                wider[place] = set;
                wider
            };
            let known = sets.iter().filter(|&&set| set & own == own && self.fits(&with(set)));
            if let Some(&set) = known.max_by_key(|set| set.count_ones()) {
                term[place] = set;
                continue;
            }
            for group in (0..self.size).filter(|group| own >> group & 1 == 0) {
                let mut wider = term;
                wider[place] = 1 << group;
                if self.fits(&wider) {
                    term[place] |= 1 << group;
                }
            }
        }
        term
    }
}
