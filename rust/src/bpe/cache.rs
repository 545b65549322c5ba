//! Words seen before, with their tokens: most words of a text are found here, so merging is rare.
//!
//! A table of fixed size, one slot per hash; a new word takes the place of the old. A slot is 32 bytes, so a hit touches one
//! cache line. Words longer than 15 bytes or of more than three tokens are not kept.

use super::hash::mix;

const BITS: u32 = 16;
const MAX_IDS: usize = 3;
/// Longest word that is kept, in bytes; the key's last byte holds the length.
pub const MAX_WORD: usize = 15;

#[derive(Clone, Copy)]
struct Slot {
    key: u128,
    ids: [u32; MAX_IDS],
    num_ids: u32,
}

/// One per thread.
pub struct WordCache {
    slots: Vec<Slot>,
}

/// A word that fits, as one number.
#[derive(Clone, Copy)]
pub struct Key(u128);

impl Key {
    /// Of the `len` bytes of `text` from `start` on; None when they are too many.
    pub fn new(text: &[u8], start: usize, len: usize) -> Option<Self> {
        if len > MAX_WORD {
            return None;
        }
        let bytes = if let Some(bytes) = text[start..].first_chunk::<16>() {
            u128::from_le_bytes(*bytes) & ((1 << (8 * len)) - 1)
        } else {
            let mut bytes = [0; 16];
            bytes[..len].copy_from_slice(&text[start..start + len]);
            u128::from_le_bytes(bytes)
        };
        Some(Self(bytes | (len as u128) << 120))
    }

    fn slot(self) -> usize {
        (mix(self.0 as u64 ^ mix((self.0 >> 64) as u64)) >> (64 - BITS)) as usize
    }
}

impl WordCache {
    /// An empty cache of 2 MB.
    pub fn new() -> Self {
        let empty = Slot {
            key: 0, // no word: the length of a word is never 0
            ids: [0; MAX_IDS],
            num_ids: 0,
        };
        Self {
            slots: vec![empty; 1 << BITS],
        }
    }

    /// Append the tokens of a word when it is known; returns whether it was.
    pub fn emit(&self, key: Key, ids: &mut Vec<u32>) -> bool {
        let slot = &self.slots[key.slot()];
        if slot.key != key.0 {
            return false;
        }
        ids.extend_from_slice(&slot.ids[..slot.num_ids as usize]);
        true
    }

    /// Remember the tokens of a word.
    pub fn insert(&mut self, key: Key, ids: &[u32]) {
        if ids.len() <= MAX_IDS {
            let slot = &mut self.slots[key.slot()];
            slot.key = key.0;
            slot.num_ids = ids.len() as u32;
            slot.ids[..ids.len()].copy_from_slice(ids);
        }
    }
}
