//! A fast hash for words and pairs of tokens. It does not resist chosen inputs, which can only slow encoding down.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
const SECOND_MULTIPLIER: u64 = 0xD1B5_4A32_D192_ED03;

/// Mix all bits of a value into the high bits.
#[inline]
pub fn mix(value: u64) -> u64 {
    let product = u128::from(value ^ MULTIPLIER) * u128::from(MULTIPLIER);
    (product >> 64) as u64 ^ product as u64
}

/// Mix all bits of two values into the high bits, with one multiplication.
#[inline]
pub fn mix_both(low: u64, high: u64) -> u64 {
    let product = u128::from(low ^ MULTIPLIER) * u128::from(high ^ SECOND_MULTIPLIER);
    (product >> 64) as u64 ^ product as u64
}

/// A map with words as keys.
pub type WordMap<K, V> = HashMap<K, V, BuildHasherDefault<MixHasher>>;

/// The `Hasher` of `WordMap`.
#[derive(Default)]
pub struct MixHasher(u64);

impl Hasher for MixHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.write_u64(u64::from_le_bytes(last));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = mix(self.0 ^ value);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
