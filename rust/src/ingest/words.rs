//! Count words: runs of characters without white space, as Unicode defines it.

use crate::bpe::{LANES, Masks, Simd, masks_of};

/// The number of words that begin in `text`. `inside` says that the text before it ends within a word.
pub fn count_words(text: &str, mut inside: bool, simd: Simd) -> u64 {
    let (chunks, rest) = text.as_bytes().as_chunks::<LANES>();
    let mut last = [b' '; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let mut count = 0;
    let mut spill = 0;
    for (index, bytes) in chunks.iter().chain(std::iter::once(&last)).enumerate() {
        let masks = masks_of(bytes, simd);
        let mut spaces = masks.spaces | spill;
        spill = 0;
        if masks.wide != 0 {
            (spaces, spill) = add_wide(text, index * LANES, &masks, spaces);
        }
        let words = !spaces;
        count += u64::from((words & !(words << 1 | u64::from(inside))).count_ones());
        inside = words >> (LANES - 1) == 1;
    }
    count
}

/// Add white space of several bytes. Also returns the bits of it that reach into the next chunk.
fn add_wide(text: &str, base: usize, masks: &Masks, mut spaces: u64) -> (u64, u64) {
    let bytes = text.as_bytes();
    let (mut rest, mut spill) = (masks.wide, 0);
    while rest != 0 {
        let at = rest.trailing_zeros() as usize;
        rest &= rest - 1;
        // All white space beyond ASCII begins with one of these bytes.
        if matches!(bytes[base + at], 0xC2 | 0xE1 | 0xE2 | 0xE3)
            && let Some(character) = text[base + at..].chars().next()
            && character.is_whitespace()
        {
            let bits = ((1_u128 << character.len_utf8()) - 1) << at;
            spaces |= bits as u64;
            spill |= (bits >> LANES) as u64;
        }
    }
    (spaces, spill)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_are_those_of_the_standard_library(
            text in "[ \\n\u{a0}\u{2003}\u{3000}\u{85}é東x.]{0,300}", cut in 0_usize..300,
        ) {
            let expected = text.split_whitespace().count() as u64;
            for simd in Simd::available() {
                prop_assert_eq!(count_words(&text, false, simd), expected);
                let cut = text.floor_char_boundary(cut.min(text.len()));
                let inside = text[..cut].chars().next_back().is_some_and(|character| !character.is_whitespace());
                let both = count_words(&text[..cut], false, simd) + count_words(&text[cut..], inside, simd);
                prop_assert_eq!(both, expected);
            }
        }
    }
}
