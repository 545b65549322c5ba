//! Bit masks of 64 bytes of text, one bit per byte: which bytes are white space, which are not ASCII.
//!
//! Three implementations give the same masks: AVX-512 and AVX2, chosen at run time if the processor has them, and plain
//! arithmetic on eight bytes at a time for all others. The masks classify ASCII only; `wide` marks all other bytes.

use crate::error::{Error, Result};

/// The vector instructions to use. A value exists only for instructions that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simd(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Scalar,
}

/// Environment variable that names the instructions to use, for tests and measurements: `avx512`, `avx2` or `scalar`.
const VARIABLE: &str = "TTTKIT_SIMD";

impl Simd {
    /// The best instructions of this processor, or those that `TTTKIT_SIMD` names.
    ///
    /// # Errors
    /// When the variable names instructions that this processor lacks.
    pub fn choose() -> Result<Self> {
        let available = Self::available();
        let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else {
            return Ok(available[0]);
        };
        let chosen = available.iter().find(|simd| name == simd.name());
        chosen.copied().ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|simd| simd.name()).collect();
            Error::Value(format!(
                "{VARIABLE} is `{}`, this processor has {}",
                name.to_string_lossy(),
                names.join(", ")
            ))
        })
    }

    /// All instructions of this processor, the best first.
    pub fn available() -> Vec<Self> {
        let mut available = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let has_bits = is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
                && is_x86_feature_detected!("popcnt");
            if has_bits
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vbmi")
            {
                available.push(Self(Kind::Avx512));
            }
            if has_bits && is_x86_feature_detected!("avx2") {
                available.push(Self(Kind::Avx2));
            }
        }
        available.push(Self(Kind::Scalar));
        available
    }

    /// `avx512`, `avx2` or `scalar`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            Kind::Scalar => "scalar",
        }
    }

    pub(super) fn kind(self) -> Kind {
        self.0
    }
}

/// The masks of 64 bytes. Each call selects the instructions again.
#[inline]
pub fn masks_of(bytes: &[u8; LANES], simd: Simd) -> Masks {
    match simd.0 {
        // SAFETY: a `Simd` of this kind only exists if the processor has the instructions.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { avx512(bytes) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { avx2(bytes) },
        Kind::Scalar => scalar(bytes),
    }
}

/// Bytes per mask.
pub const LANES: usize = 64;

/// The classes of 64 bytes: bit i is for byte i.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Masks {
    /// ASCII white space.
    pub spaces: u64,
    /// Bytes of characters beyond ASCII.
    pub wide: u64,
}

/// The masks, with 512-bit registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub fn avx512(bytes: &[u8; LANES]) -> Masks {
    use std::arch::x86_64::{
        _mm512_cmpeq_epi8_mask, _mm512_cmple_epu8_mask, _mm512_loadu_si512, _mm512_movepi8_mask, _mm512_set1_epi8,
        _mm512_sub_epi8,
    };
    // SAFETY: the array has exactly the 64 bytes that are read, and the load needs no alignment.
    let all = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
    let within = |value, first: u8, count: i8| {
        _mm512_cmple_epu8_mask(
            _mm512_sub_epi8(value, _mm512_set1_epi8(first.cast_signed())),
            _mm512_set1_epi8(count - 1),
        )
    };
    Masks {
        spaces: _mm512_cmpeq_epi8_mask(all, _mm512_set1_epi8(b' '.cast_signed())) | within(all, b'\t', 5),
        wide: _mm512_movepi8_mask(all),
    }
}

/// The masks, with 256-bit registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
pub fn avx2(bytes: &[u8; LANES]) -> Masks {
    use std::arch::x86_64::{
        __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_set1_epi8,
        _mm256_sub_epi8,
    };
    let bits = |value: __m256i| u64::from(_mm256_movemask_epi8(value).cast_unsigned());
    let half = |at: usize| {
        // SAFETY: `at` is 0 or 32, so the 32 bytes that are read are in the array; the load needs no alignment.
        let all = unsafe { _mm256_loadu_si256(bytes.as_ptr().add(at).cast()) };
        let within = |value, first: u8, count: i8| {
            let offset = _mm256_sub_epi8(value, _mm256_set1_epi8(first.cast_signed()));
            bits(_mm256_cmpeq_epi8(
                _mm256_min_epu8(offset, _mm256_set1_epi8(count - 1)),
                offset,
            ))
        };
        let equal = |byte: u8| bits(_mm256_cmpeq_epi8(all, _mm256_set1_epi8(byte.cast_signed())));
        Masks {
            spaces: equal(b' ') | within(all, b'\t', 5),
            wide: bits(all),
        }
    };
    let (low, high) = (half(0), half(32));
    let join = |low: u64, high: u64| low | high << 32;
    Masks {
        spaces: join(low.spaces, high.spaces),
        wide: join(low.wide, high.wide),
    }
}

/// The masks, on any processor, from eight bytes at a time in one integer.
#[inline]
pub fn scalar(bytes: &[u8; LANES]) -> Masks {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let mut masks = Masks::default();
    let (words, _) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let all = u64::from_le_bytes(*word);
        let ascii = !all & HIGH;
        let low = all & !HIGH;
        // The high bit of each byte of `low + (128 - n)` tells whether the byte is at least n.
        let at_least = |value: u64, n: u8| value + u64::from(128 - n) * ONES;
        let within =
            |value: u64, first: u8, count: u8| at_least(value, first) & !at_least(value, first + count) & ascii;
        // Gather the high bits of the eight bytes.
        let bits = |flags: u64| ((flags & HIGH) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56 << (8 * index);
        masks.spaces |= bits(within(low, b' ', 1)) | bits(within(low, b'\t', 5));
        masks.wide |= bits(all);
    }
    masks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expected(bytes: &[u8; LANES]) -> Masks {
        let bits = |test: &dyn Fn(u8) -> bool| (0..LANES).fold(0, |mask, at| mask | u64::from(test(bytes[at])) << at);
        Masks {
            spaces: bits(&|byte| matches!(byte, 9..=13 | 32)),
            wide: bits(&|byte| byte >= 128),
        }
    }

    proptest! {
        #[test]
        fn all_instructions_give_the_same_masks(bytes: [u8; 32], more: [u8; 32]) {
            let mut all = [0; LANES];
            all[..32].copy_from_slice(&bytes);
            all[32..].copy_from_slice(&more);
            for simd in Simd::available() {
                prop_assert_eq!(masks_of(&all, simd), expected(&all), "{}", simd.name());
            }
        }
    }

    #[test]
    fn every_byte_has_its_class() {
        for byte in 0..=255_u8 {
            assert_eq!(scalar(&[byte; LANES]), expected(&[byte; LANES]), "{byte}");
        }
    }
}
