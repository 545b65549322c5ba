//! Read and change bits that mark places of a text, in masks of 64 bytes each.

use crate::bpe::masks::LANES;

/// The last start at or before `place`.
pub fn last_start(starts: &[u64], place: usize) -> usize {
    let mut index = place / LANES;
    let mut mask = starts[index] & (u64::MAX >> (LANES - 1 - place % LANES));
    while mask == 0 && index > 0 {
        index -= 1;
        mask = starts[index];
    }
    if mask == 0 {
        0
    } else {
        index * LANES + mask.ilog2() as usize
    }
}

/// Clear the bits from `from` to `to`.
pub fn clear(starts: &mut [u64], from: usize, to: usize) {
    let below = |place: usize| (1_u64 << (place % LANES)) - 1;
    for (index, mask) in starts.iter_mut().enumerate().take(to / LANES + 1).skip(from / LANES) {
        let mut kept = 0;
        if index == from / LANES {
            kept |= below(from);
        }
        if index == to / LANES {
            kept |= !below(to);
        }
        *mask &= kept;
    }
}

/// Positions of the set bits of a mask, lowest first.
pub fn ones(mut mask: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let at = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (at < u64::BITS).then_some(at)
    })
}
