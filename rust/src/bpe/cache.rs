//! Words seen before, with their tokens: most words of a text are found here, so merging is rare.
//!
//! Words up to 15 bytes live in a table of fixed size, one 32-byte slot per hash, so a hit touches one cache line and is one
//! comparison of 16 bytes and one copy of 16. A new word takes the place of the old. Longer words, rare in prose and common
//! in code, live in a map that is emptied when it is full.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::hash::{MixHasher, mix};

/// A token id as it is stored: u16 for vocabularies that fit, else u32.
pub trait Id: Copy + Default + Ord + Send + Sync + 'static {
    /// Ids that one slot holds, and in the last place how many.
    type Inline: Copy + AsRef<[Self]> + AsMut<[Self]> + Default + Send;
    /// Of an id, or a number of ids, that is known to fit.
    fn of(value: u32) -> Self;
    /// Back again.
    fn value(self) -> u32;
}

impl Id for u16 {
    type Inline = [Self; 8];
    fn of(value: u32) -> Self {
        value as Self
    }
    fn value(self) -> u32 {
        self.into()
    }
}

impl Id for u32 {
    type Inline = [Self; 4];
    fn of(value: u32) -> Self {
        value
    }
    fn value(self) -> u32 {
        self
    }
}

/// Longest word of the table, in bytes; the key's last byte holds the length.
const MAX_SHORT: usize = 15;
const MAX_LONG: usize = 128;
const MAX_LONG_WORDS: usize = 1 << 14;

#[derive(Clone, Copy)]
struct Slot<T: Id> {
    key: u128,
    ids: T::Inline,
}

/// One per thread.
pub struct WordCache<T: Id> {
    slots: Box<[Slot<T>]>,
    shift: u32,
    long: HashMap<Box<[u8]>, Box<[T]>, BuildHasherDefault<MixHasher>>,
}

/// A word that fits the table, as one number; its length, never 0, is the highest byte. An empty slot holds 0.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Key(u128);

impl Key {
    /// What no slot ever holds.
    const LONG: Self = Self(1);

    /// Of the `len` bytes of `text` from `start` on.
    #[inline]
    pub fn new(text: &[u8], start: usize, len: usize) -> Self {
        if len > MAX_SHORT {
            return Self::LONG;
        }
        let bytes = if let Some(bytes) = text[start..].first_chunk::<16>() {
            u128::from_le_bytes(*bytes) & ((1 << (8 * len)) - 1)
        } else {
            let mut bytes = [0; 16];
            bytes[..len].copy_from_slice(&text[start..start + len]);
            u128::from_le_bytes(bytes)
        };
        Self(bytes | (len as u128) << 120)
    }

    /// Whether the word was too long for the table.
    #[inline]
    pub fn is_long(self) -> bool {
        self == Self::LONG
    }
}

impl<T: Id> WordCache<T> {
    /// An empty cache with a table of 2^`bits` slots of 32 bytes.
    pub fn new(bits: u32) -> Self {
        let empty = Slot {
            key: 0,
            ids: T::Inline::default(),
        };
        Self {
            slots: vec![empty; 1 << bits].into_boxed_slice(),
            shift: u64::BITS - bits,
            long: HashMap::default(),
        }
    }

    /// Where the word's slot is.
    #[inline]
    pub fn slot(&self, key: Key) -> usize {
        (mix(key.0 as u64 ^ mix((key.0 >> 64) as u64)) >> self.shift) as usize
    }

    /// Ask for a slot before it is needed.
    #[inline]
    pub fn prefetch(&self, slot: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Some(slot) = self.slots.get(slot) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the address is that of a slot; a prefetch reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(slot).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = slot;
    }

    /// The tokens of a word that the table knows, their number in the last place.
    #[inline]
    pub fn get(&self, key: Key, slot: usize) -> Option<&T::Inline> {
        let slot = &self.slots[slot];
        (slot.key == key.0).then_some(&slot.ids)
    }

    /// Remember the tokens of a word, when they are few enough.
    pub fn insert(&mut self, key: Key, slot: usize, ids: &[T]) {
        let mut inline = T::Inline::default();
        let places = inline.as_mut();
        let count = places.len() - 1;
        if ids.len() <= count {
            places[..ids.len()].copy_from_slice(ids);
            places[count] = T::of(ids.len() as u32);
            self.slots[slot] = Slot {
                key: key.0,
                ids: inline,
            };
        }
    }

    /// The tokens of a long word.
    pub fn get_long(&self, word: &[u8]) -> Option<&[T]> {
        self.long.get(word).map(AsRef::as_ref)
    }

    /// Remember the tokens of a long word, unless it is so long that it will hardly come again.
    pub fn insert_long(&mut self, word: &[u8], ids: &[T]) {
        if word.len() <= MAX_LONG {
            if self.long.len() >= MAX_LONG_WORDS {
                self.long.clear();
            }
            self.long.insert(word.into(), ids.into());
        }
    }
}
