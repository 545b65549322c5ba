//! Find where words start: one bit per byte of the text, several blocks of 64 bytes at a time.
//!
//! Masks of 64 bits say which bytes are of which group. Whether a word starts at a byte follows from the groups of its
//! neighbors, by a `program` of operations on masks. Where they do not tell, the plain reader takes over until the next
//! place where the text may be cut.

use super::bits::{clear, last_start, ones};
use super::graph::Graph;
use super::lanes::{self, BLOCKS, Row, Table};
use super::program::{Program, first_bits};
use super::reader::decode;
use super::steps::Steps;
use super::windows::Windows;
use crate::bpe::masks::{Kind, LANES, Simd};

/// The group of a character of several bytes that only a reader can judge.
const NO_GROUP: u8 = u8::MAX;

/// Everything that is needed to find the words of a text.
pub struct Splitter {
    steps: Steps,
    windows: Option<Windows>,
    program: Program,
    /// The group of each atom of several bytes, or `NO_GROUP`.
    wide_groups: Vec<u8>,
}

/// The bytes of a character that continues in the next block.
#[derive(Default)]
struct Spill {
    group: u8,
    bits: u64,
}

impl Splitter {
    /// Prepare the tables. The error says what is not supported.
    pub fn new(steps: Steps) -> Result<Self, String> {
        if Graph::removes_text(&steps) {
            return Err("its pre_tokenizer removes text".into());
        }
        let tables = Windows::new(&steps).and_then(|windows| Some((Program::new(&windows)?, windows)));
        let (program, windows) = tables.map_or_else(Default::default, |(program, windows)| (program, Some(windows)));
        let wide_groups = windows.as_ref().map_or_else(Vec::new, |windows| {
            let groups = windows.atom_groups.iter().zip(&windows.may_repeat);
            groups
                .map(|(&group, &repeats)| if repeats { group } else { NO_GROUP })
                .collect()
        });
        Ok(Self {
            steps,
            windows,
            program,
            wide_groups,
        })
    }

    /// Whether a space is put before a text that does not begin with one.
    pub fn adds_space(&self) -> bool {
        self.steps.adds_space
    }

    /// Whether the masks find words, and not only the reader.
    #[cfg(test)]
    pub fn has_masks(&self) -> bool {
        self.windows.is_some()
    }

    /// The steps that define the words.
    #[cfg(test)]
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// Whether a text may be cut between these neighbors, whatever surrounds them.
    pub fn may_cut(&self, left: char, right: char) -> bool {
        self.windows
            .as_ref()
            .is_some_and(|windows| windows.cuts[self.group(windows, left)] >> self.group(windows, right) & 1 == 1)
    }

    fn group(&self, windows: &Windows, character: char) -> usize {
        usize::from(if character.is_ascii() {
            windows.ascii_groups[character as usize]
        } else {
            windows.atom_groups[usize::from(self.steps.atoms.of_char(character))]
        })
    }

    /// Set bit i % 64 of entry i / 64 of `starts` for every word that starts at byte i of `text`.
    pub fn find_starts(&self, text: &str, simd: Simd, starts: &mut Vec<u64>) {
        starts.clear();
        if self.windows.is_none() {
            starts.resize(text.len().div_ceil(LANES), 0);
            self.read(text.as_bytes(), 0, text.len(), starts);
            return;
        }
        match simd.kind() {
            // SAFETY: a `Simd` of this kind only exists if the processor has the instructions.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { self.with_avx512(text, starts) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { self.with_avx2(text, starts) },
            Kind::Scalar => self.find(text, starts, lanes::scalar),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,bmi2,lzcnt,popcnt")]
    fn with_avx512(&self, text: &str, starts: &mut Vec<u64>) {
        self.find(text, starts, |bytes, table, rows, block| {
            lanes::avx512(bytes, table, rows, block)
        });
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn with_avx2(&self, text: &str, starts: &mut Vec<u64>) {
        self.find(text, starts, |bytes, table, rows, block| {
            lanes::avx2(bytes, table, rows, block)
        });
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
    fn find(&self, text: &str, starts: &mut Vec<u64>, lanes: impl Fn(&[u8; LANES], &Table, &mut [Row], usize) -> u64) {
        let (chunks, rest) = text.as_bytes().as_chunks::<LANES>();
        let mut padded = [0; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        let (mut unknown, mut spill, mut state) = (Vec::new(), Spill::default(), self.program.state());
        let num_blocks = text.len().div_ceil(LANES);
        starts.reserve(num_blocks);
        for first in (0..num_blocks).step_by(BLOCKS) {
            state.advance();
            let count = BLOCKS.min(num_blocks - first);
            for index in first..first + count {
                let block = index - first + 1;
                let bytes = chunks.get(index).unwrap_or(&padded);
                let wide = lanes(bytes, &self.program.table, &mut state.rows, block);
                if wide != 0 {
                    let rows = &mut state.rows;
                    state.strange[block] = self.classify_wide(text, index, wide, (rows, block), &mut spill);
                }
            }
            let len = text.len() - first * LANES;
            if len < BLOCKS * LANES {
                self.program.end(&mut state.rows, len);
            }
            let after = self.group_set(text, (first + BLOCKS) * LANES);
            let [found, open] = self.program.evaluate(&mut state, after);
            for ((index, found), open) in (first..first + count).zip(found).zip(open) {
                let inside = first_bits(text.len() - index * LANES);
                let open = open & inside;
                starts.push(found & !open & inside);
                if open != 0 {
                    unknown.push((index, open));
                }
            }
        }
        starts[0] |= 1;
        self.read_unknown(text, &unknown, starts);
    }

    /// The group of the character at byte `at`, as a set, which is empty if only a reader can judge it.
    #[inline]
    fn group_set(&self, text: &str, at: usize) -> u32 {
        match text.as_bytes().get(at) {
            None => 1 << self.program.table.outside,
            Some(&byte) if byte < 0x80 => 1 << self.program.table.group(byte),
            Some(_) => match self.wide_group(&text.as_bytes()[text.floor_char_boundary(at)..]) {
                (NO_GROUP, _) => 0,
                (group, _) => 1 << group,
            },
        }
    }

    /// The group of the first character of a text, which is beyond ASCII, and its number of bytes.
    fn wide_group(&self, text: &[u8]) -> (u8, usize) {
        let (character, len) = decode(text);
        (self.wide_groups[usize::from(self.steps.atoms.of_char(character))], len)
    }

    /// Put the characters of several bytes of the block `index` of the text into its masks. Returns the bytes of those that only a reader can judge.
    fn classify_wide(
        &self,
        text: &str,
        index: usize,
        wide: u64,
        (rows, block): (&mut [Row], usize),
        spill: &mut Spill,
    ) -> u64 {
        let (mut rest, mut strange) = (wide, 0);
        let mut add = |group: u8, bits: u64| match group {
            NO_GROUP => strange |= bits,
            group => self.program.add(rows, block, group, bits),
        };
        if spill.bits != 0 {
            add(spill.group, spill.bits);
            rest &= !spill.bits;
            spill.bits = 0;
        }
        while rest != 0 {
            let at = rest.trailing_zeros();
            let (group, len) = self.wide_group(&text.as_bytes()[index * LANES + at as usize..]);
            let bits = ((1_u128 << len) - 1) << at;
            add(group, bits as u64);
            *spill = Spill {
                group,
                bits: (bits >> LANES) as u64,
            };
            rest &= !(bits as u64);
        }
        strange
    }

    /// Let the reader find the words around the bytes that the masks could not judge.
    fn read_unknown(&self, text: &str, unknown: &[(usize, u64)], starts: &mut [u64]) {
        let mut done = 0;
        for &(index, mask) in unknown {
            for at in ones(mask) {
                let unknown = index * LANES + at as usize;
                if unknown <= done {
                    continue;
                }
                // All starts after `done` are certain, so the last of them is a place for a cut.
                let place = text.floor_char_boundary(unknown);
                let from = last_start(starts, place);
                let to = self.next_cut(text, place);
                clear(starts, from, to);
                self.read(text.as_bytes(), from, to, starts);
                if to < text.len() {
                    starts[to / LANES] |= 1 << (to % LANES);
                }
                done = to;
            }
        }
    }

    /// The first place after byte `from` where the text may be cut, or its end.
    fn next_cut(&self, text: &str, from: usize) -> usize {
        let mut characters = text[from..].char_indices();
        let mut left = characters.next();
        for (at, right) in characters {
            if left.is_some_and(|(_, left)| self.may_cut(left, right)) {
                return from + at;
            }
            left = Some((at, right));
        }
        text.len()
    }

    /// Mark the words of `text[from..to]`, a text of its own.
    fn read(&self, text: &[u8], from: usize, to: usize, starts: &mut [u64]) {
        let mut start = from;
        self.steps.read_words(&text[from..to], &mut |end| {
            starts[start / LANES] |= 1 << (start % LANES);
            start = from + end;
        });
    }
}
