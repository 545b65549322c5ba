//! Atoms: the coarsest classes of characters such that every set of the expressions is a union of classes.
//!
//! The sets come from `regex-syntax`, which the regular expressions of the `tokenizers` crate use too, so both follow the
//! same version of Unicode. Finding the atom of a character is one table look-up. Equal blocks of 256 characters are stored
//! once.

use std::collections::HashMap;

use regex_syntax::hir::ClassUnicode;

/// A set of atoms: bit i stands for atom i.
pub type AtomSet = u64;
/// The bit that stands for the end of the text, in sets that describe what may follow.
pub const END: u8 = 63;
/// Largest number of atoms.
const MAX_ATOMS: usize = 60;
/// Largest number of different sets.
const MAX_SETS: usize = 64;

const BLOCK: usize = 256;
const NUM_CODE_POINTS: usize = 0x11_0000;

/// The atom of every character.
#[expect(clippy::struct_field_names, reason = "the atoms of the characters in the blocks")]
pub struct Atoms {
    blocks: Vec<u16>,
    atoms: Vec<u8>,
    count: u8,
}

impl Atoms {
    /// Build the table for these sets, and express each set as a union of atoms. The error says what is not supported.
    pub fn new(sets: &[ClassUnicode]) -> Result<(Self, Vec<AtomSet>), String> {
        let mut different: Vec<&ClassUnicode> = Vec::new();
        for set in sets {
            if !different.contains(&set) {
                different.push(set);
            }
        }
        if different.len() > MAX_SETS {
            return Err(format!("has more than {MAX_SETS} classes of characters"));
        }
        let mut edges: Vec<(usize, u64)> = vec![(NUM_CODE_POINTS, 0)];
        for (index, set) in different.iter().enumerate() {
            for range in set.iter() {
                edges.push((range.start() as usize, 1 << index));
                edges.push((range.end() as usize + 1, 1 << index));
            }
        }
        edges.sort_unstable();
        let (mut all, mut known) = (vec![0_u8; NUM_CODE_POINTS], HashMap::new());
        let mut signatures = Vec::new();
        let (mut done, mut signature) = (0, 0);
        for (edge, bit) in edges {
            if edge > done {
                let atom = *known.entry(signature).or_insert_with(|| {
                    signatures.push(signature);
                    signatures.len() - 1
                });
                if atom >= MAX_ATOMS {
                    return Err(format!("has more than {MAX_ATOMS} classes of characters"));
                }
                all[done..edge].fill(atom as u8);
                done = edge;
            }
            signature ^= bit;
        }
        let of_set = |set: &ClassUnicode| {
            let index = different.iter().position(|other| other == &set).unwrap_or_default();
            let members = signatures
                .iter()
                .enumerate()
                .filter(|(_, signature)| **signature >> index & 1 == 1);
            members.fold(0, |atoms, (atom, _)| atoms | 1 << atom)
        };
        Ok((
            Self::compress(&all, signatures.len() as u8),
            sets.iter().map(of_set).collect(),
        ))
    }

    fn compress(all: &[u8], count: u8) -> Self {
        let (mut blocks, mut atoms) = (Vec::new(), Vec::new());
        let mut known: HashMap<&[u8], u16> = HashMap::new();
        for block in all.chunks(BLOCK) {
            blocks.push(*known.entry(block).or_insert_with(|| {
                atoms.extend_from_slice(block);
                (atoms.len() / BLOCK - 1) as u16
            }));
        }
        Self { blocks, atoms, count }
    }

    /// The number of atoms.
    pub fn count(&self) -> u8 {
        self.count
    }

    /// The atom of a character.
    #[inline]
    pub fn of_char(&self, character: char) -> u8 {
        let code = character as usize;
        self.atoms[usize::from(self.blocks[code / BLOCK]) * BLOCK + code % BLOCK]
    }
}
