//! Bit masks of blocks of 64 bytes of text, one bit per byte and one mask per set of groups of characters.
//!
//! Three implementations give the same masks: AVX-512 and AVX2, chosen at run time if the processor has them, and a loop
//! over the bytes for all others. They know ASCII only, and return a mask of all other bytes.

use crate::bpe::masks::LANES;

/// Largest number of sets.
pub const MAX_SETS: usize = 128;
/// Sets whose membership is looked up together, one bit each.
const TOGETHER: usize = 8;
/// Largest number of groups, with the one for places outside the text.
pub const MAX_GROUPS: usize = 20;

/// Blocks of 64 bytes whose masks are computed with, so that vector instructions take one mask of each at once.
pub const BLOCKS: usize = 8;
/// The masks of one set: those of the block before, of `BLOCKS` blocks, and of the block after them.
pub type Row = [u64; BLOCKS + 2];

/// The group of every ASCII character, and the sets of groups.
#[derive(Default)]
pub struct Table {
    groups: Vec<u8>,
    /// The number of groups. It stands for places outside the text.
    pub outside: usize,
    /// The sets; bit i stands for group i.
    pub sets: Vec<u32>,
    /// For every eight sets, their bits for each ASCII character.
    bits: Vec<[u8; 128]>,
}

impl Table {
    /// Make the table. None if there are too many sets.
    pub fn new(groups: &[u8; 128], num_groups: usize, sets: Vec<u32>) -> Option<Self> {
        let bits = sets.chunks(TOGETHER).map(|sets| {
            groups.map(|group| {
                let bits = sets.iter().enumerate().map(|(bit, set)| (set >> group & 1) << bit);
                bits.sum::<u32>() as u8
            })
        });
        let bits = bits.collect();
        (sets.len() <= MAX_SETS && num_groups < MAX_GROUPS).then(|| Self {
            groups: groups.to_vec(),
            outside: num_groups,
            bits,
            sets,
        })
    }

    /// The number of rows that the masks of this table need: that of the sets, rounded up to those looked up together.
    pub fn num_rows(&self) -> usize {
        self.bits.len() * TOGETHER
    }

    /// The group of an ASCII character.
    #[inline]
    pub fn group(&self, byte: u8) -> u8 {
        self.groups[usize::from(byte)]
    }
}

/// The masks, with 512-bit registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
pub fn avx512(bytes: &[u8; LANES], table: &Table, rows: &mut [Row], block: usize) -> u64 {
    use std::arch::x86_64::{
        _mm512_loadu_si512, _mm512_maskz_permutex2var_epi8, _mm512_movepi8_mask, _mm512_set1_epi8,
        _mm512_test_epi8_mask,
    };
    // SAFETY: the array has exactly the 64 bytes that are read, and the load needs no alignment.
    let all = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
    let wide = _mm512_movepi8_mask(all);
    let (parts, _) = rows.as_chunks_mut::<TOGETHER>();
    for (rows, bits) in parts.iter_mut().zip(&table.bits) {
        // SAFETY: the table has 128 bytes.
        let (low, high) = unsafe {
            (
                _mm512_loadu_si512(bits.as_ptr().cast()),
                _mm512_loadu_si512(bits.as_ptr().add(64).cast()),
            )
        };
        let found = _mm512_maskz_permutex2var_epi8(!wide, low, all, high);
        for (bit, row) in rows.iter_mut().enumerate() {
            row[block] = _mm512_test_epi8_mask(found, _mm512_set1_epi8((1_u8 << bit).cast_signed()));
        }
    }
    wide
}

/// The masks, with 256-bit registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
pub fn avx2(bytes: &[u8; LANES], table: &Table, rows: &mut [Row], block: usize) -> u64 {
    use std::arch::x86_64::{
        __m256i, _mm_loadu_si128, _mm256_add_epi8, _mm256_adds_epu8, _mm256_broadcastsi128_si256, _mm256_loadu_si256,
        _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8,
        _mm256_sub_epi8,
    };
    let high_bits = |value: __m256i| u64::from(_mm256_movemask_epi8(value).cast_unsigned());
    let join = |[low, high]: [__m256i; 2]| high_bits(low) | high_bits(high) << 32;
    // SAFETY: the array has exactly the 64 bytes that are read, and the loads need no alignment.
    let halves = unsafe {
        [
            _mm256_loadu_si256(bytes.as_ptr().cast()),
            _mm256_loadu_si256(bytes.as_ptr().add(32).cast()),
        ]
    };
    let (parts, _) = rows.as_chunks_mut::<TOGETHER>();
    for (rows, bits) in parts.iter_mut().zip(&table.bits) {
        let mut found = [_mm256_setzero_si256(); 2];
        for row in 0..8 {
            // SAFETY: each row of the table has the 16 bytes that are read.
            let row_bits = unsafe { _mm_loadu_si128(bits.as_ptr().add(16 * row).cast()) };
            let row_bits = _mm256_broadcastsi128_si256(row_bits);
            for (found, half) in found.iter_mut().zip(halves) {
                // Bytes of other rows get a high bit here, and `shuffle` gives 0 for them.
                let offset = _mm256_sub_epi8(half, _mm256_set1_epi8(16 * row as i8));
                let index = _mm256_adds_epu8(offset, _mm256_set1_epi8(0x70));
                *found = _mm256_or_si256(*found, _mm256_shuffle_epi8(row_bits, index));
            }
        }
        for row in rows.iter_mut().rev() {
            row[block] = join(found);
            for half in &mut found {
                *half = _mm256_add_epi8(*half, *half);
            }
        }
    }
    join(halves)
}

/// The masks, on any processor.
#[inline]
pub fn scalar(bytes: &[u8; LANES], table: &Table, rows: &mut [Row], block: usize) -> u64 {
    let (mut wide, mut by_group) = (0, [0_u64; MAX_GROUPS]);
    for (at, &byte) in bytes.iter().enumerate() {
        if byte < 0x80 {
            by_group[usize::from(table.group(byte)) % MAX_GROUPS] |= 1 << at;
        } else {
            wide |= 1 << at;
        }
    }
    for row in rows.iter_mut() {
        row[block] = 0;
    }
    for (group, &own) in by_group.iter().enumerate().take(table.outside) {
        // A block has characters of few groups.
        if own != 0 {
            for (row, &set) in rows.iter_mut().zip(&table.sets) {
                row[block] |= own & all_if(set >> group & 1 == 1);
            }
        }
    }
    wide
}

/// All bits if the condition holds, else none.
#[inline]
pub fn all_if(condition: bool) -> u64 {
    0_u64.wrapping_sub(u64::from(condition))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bpe::masks::{Kind, Simd};

    proptest! {
        #[test]
        fn all_instructions_give_the_same_masks(bytes: [u8; 32], more: [u8; 32], groups: [u8; 32], sets: [u32; 19],
            block in 0..BLOCKS + 2) {
            let groups = std::array::from_fn(|code| groups[code % 32] % 18);
            let table = Table::new(&groups, 18, sets.to_vec()).expect("small");
            let mut all = [0; LANES];
            all[..32].copy_from_slice(&bytes);
            all[32..].copy_from_slice(&more);
            for simd in Simd::available() {
                let mut rows = vec![Row::default(); table.num_rows()];
                let wide = match simd.kind() {
                    // SAFETY: a `Simd` of this kind only exists if the processor has the instructions.
                    #[cfg(target_arch = "x86_64")]
                    Kind::Avx512 => unsafe { avx512(&all, &table, &mut rows, block) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Kind::Avx2 => unsafe { avx2(&all, &table, &mut rows, block) },
                    Kind::Scalar => scalar(&all, &table, &mut rows, block),
                };
                for (at, &byte) in all.iter().enumerate() {
                    prop_assert_eq!(wide >> at & 1 == 1, byte >= 128);
                    for (row, set) in rows.iter().zip(&sets) {
                        let inside = byte < 128 && set >> groups[usize::from(byte) % 128] & 1 == 1;
                        prop_assert_eq!(row[block] >> at & 1 == 1, inside, "{} at {}", simd.name(), at);
                    }
                }
            }
        }
    }
}
