//! A cache of words with their tokens. It contains most words of a text, so merging is rare.
//!
//! Words of up to 15 bytes are in a table of fixed size, with two slots of 32 bytes per hash in one cache line. A hit
//! reads one line, compares 16 bytes and copies 16. A new word takes the second slot; when it is read there again, it
//! moves to the first, so frequent words survive many rare ones. Longer words and those of more
//! tokens than a slot holds are in a map that is cleared when it is full.

use super::hash::{WordMap, mix_both};
use super::large;

/// A token id as it is stored: u16 for vocabularies that fit, else u32.
pub trait Id: Copy + Default + Ord + Send + Sync + 'static {
    /// The ids of one slot, with their number in the last place.
    type Inline: Copy + AsRef<[Self]> + AsMut<[Self]> + Default + Send;
    /// Convert an id, or a number of ids, that is known to fit.
    fn of(value: u32) -> Self;
    /// Convert back to u32.
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

/// Longest word of the table in bytes. The last byte of a key holds the length.
const MAX_SHORT: usize = 15;
/// Longest word of the map in bytes.
const MAX_LONG: usize = 128;
const MAX_LONG_WORDS: usize = 1 << 14;

/// Entry n is a mask for the first n bytes of a number.
const FIRST_BYTES: [u128; MAX_SHORT + 1] = {
    let mut masks = [0; MAX_SHORT + 1];
    let mut len = 1;
    while len <= MAX_SHORT {
        masks[len] = masks[len - 1] << 8 | 0xFF;
        len += 1;
    }
    masks
};

#[derive(Clone, Copy)]
struct Slot<T: Id> {
    key: u128,
    ids: T::Inline,
}

/// Two words with the same hash, in one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line<T: Id>([Slot<T>; 2]);

/// The word cache of one thread.
pub struct WordCache<T: Id> {
    lines: Box<[Line<T>]>,
    shift: u32,
    long: WordMap<Box<[u8]>, Box<[T]>>,
}

/// A word of the table as one number. Its highest byte is its length, which is never 0; the key of an empty slot is 0.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Key(u128);

impl Key {
    /// The key of all longer words, which no slot holds.
    const LONG: Self = Self(1);

    /// The key of the `len` bytes of `text` from `start` on.
    #[inline]
    pub fn new(text: &[u8], start: usize, len: usize) -> Self {
        if len > MAX_SHORT {
            return Self::LONG;
        }
        let bytes = if let Some(bytes) = text[start..].first_chunk::<16>() {
            u128::from_le_bytes(*bytes) & FIRST_BYTES[len]
        } else {
            let mut bytes = [0; 16];
            bytes[..len].copy_from_slice(&text[start..start + len]);
            u128::from_le_bytes(bytes)
        };
        Self(bytes | (len as u128) << 120)
    }

    /// Whether the word is too long for the table.
    #[inline]
    pub fn is_long(self) -> bool {
        self == Self::LONG
    }
}

impl<T: Id> WordCache<T> {
    /// Make an empty cache with a table of 2^`bits` slots of 32 bytes.
    pub fn new(bits: u32) -> Self {
        let empty = Slot {
            key: 0,
            ids: T::Inline::default(),
        };
        Self {
            lines: large::table(Line([empty; 2]), 1 << (bits - 1)),
            shift: u64::BITS - (bits - 1),
            long: WordMap::default(),
        }
    }

    /// The index of the word's line.
    #[inline]
    pub fn line(&self, key: Key) -> usize {
        (mix_both(key.0 as u64, (key.0 >> 64) as u64) >> self.shift) as usize
    }

    /// Prefetch a line.
    #[inline]
    pub fn prefetch(&self, line: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Some(line) = self.lines.get(line) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: the address is that of a line; a prefetch does not access memory.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }

    /// The tokens of a word, with their number in the last place. None if the table does not have the word.
    #[inline]
    pub fn get(&mut self, key: Key, line: usize) -> Option<&T::Inline> {
        let Line(slots) = &mut self.lines[line];
        if slots[0].key != key.0 {
            if slots[1].key != key.0 {
                return None;
            }
            slots.swap(0, 1);
        }
        Some(&slots[0].ids)
    }

    /// Store the tokens of a word, if they fit a slot. Returns whether they do.
    pub fn insert(&mut self, key: Key, line: usize, ids: &[T]) -> bool {
        let mut inline = T::Inline::default();
        let places = inline.as_mut();
        let count = places.len() - 1;
        let fits = ids.len() <= count;
        if fits {
            places[..ids.len()].copy_from_slice(ids);
            places[count] = T::of(ids.len() as u32);
            let Line(slots) = &mut self.lines[line];
            let place = usize::from(slots[0].key != 0);
            slots[place] = Slot {
                key: key.0,
                ids: inline,
            };
        }
        fits
    }

    /// The tokens of a word that no slot holds, or None.
    pub fn get_long(&self, word: &[u8]) -> Option<&[T]> {
        self.long.get(word).map(AsRef::as_ref)
    }

    /// Store the tokens of a word that no slot can hold, unless it is so long that it will hardly occur again.
    pub fn insert_long(&mut self, word: &[u8], ids: &[T]) {
        if word.len() <= MAX_LONG {
            if self.long.len() >= MAX_LONG_WORDS {
                self.long.clear();
            }
            self.long.insert(word.into(), ids.into());
        }
    }
}
