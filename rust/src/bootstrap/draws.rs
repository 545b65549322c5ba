//! Draws: how often each resample draws each unit.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::window::mix;

/// Resamples that are processed side by side, in SIMD lanes.
pub(super) const LANES: usize = 16;
pub(super) type Lanes<T> = [T; LANES];
/// More resamples would need gigabytes and change no digit that is shown.
const MOST_RESAMPLES: usize = 1_000_000;

/// For every resample, how often each unit was drawn.
pub(super) struct Draws {
    pub num_units: usize,
    pub num_resamples: usize,
    /// `(blocks, units)`, one lane per resample. Lanes past the last resample are drawn too and dropped later.
    pub counts: Vec<Lanes<u16>>,
}

impl Draws {
    pub fn new(num_units: usize, num_resamples: usize, seed: u64) -> Result<Self> {
        if num_resamples == 0 || num_resamples > MOST_RESAMPLES {
            return Err(Error::Value(format!(
                "num_resamples must be in 1 … {MOST_RESAMPLES}, got {num_resamples}"
            )));
        }
        if num_units > usize::from(u16::MAX) {
            return Err(Error::Value(format!(
                "at most {} units can be resampled, got {num_units}",
                u16::MAX
            )));
        }
        let mut counts = vec![[0; LANES]; num_resamples.div_ceil(LANES) * num_units];
        counts
            .par_chunks_exact_mut(num_units)
            .enumerate()
            .for_each(|(block, counts)| draw(block, seed, counts));
        Ok(Self {
            num_units,
            num_resamples,
            counts,
        })
    }
}

/// Count the draws of the resamples of one block. `counts` has an entry per unit.
fn draw(block: usize, seed: u64, counts: &mut [Lanes<u16>]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512dq") {
        // SAFETY: the processor has the instructions, as was just checked.
        return unsafe { draw_avx512(block, seed, counts) };
    }
    draw_portable(block, seed, counts);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq")]
fn draw_avx512(block: usize, seed: u64, counts: &mut [Lanes<u16>]) {
    draw_portable(block, seed, counts);
}

#[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
#[inline(always)]
fn draw_portable(block: usize, seed: u64, counts: &mut [Lanes<u16>]) {
    let num_units = counts.len() as u64;
    let seed = mix(seed);
    let mut states: Lanes<u64> = std::array::from_fn(|lane| {
        let resample = (block * LANES + lane) as u64;
        seed.wrapping_add(mix(resample ^ 0x5851_F42D_4C95_7F2D))
    });
    let mut units = [0; LANES];
    for _ in 0..num_units {
        // Loops over arrays, because closures would not be compiled for the instructions of this function.
        for (state, unit) in states.iter_mut().zip(&mut units) {
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let bits = mix(*state);
            // The upper 64 bits of `bits * num_units`, from halves because processors multiply 32 bits side by side.
            *unit = ((bits >> 32) * num_units + (((bits & 0xFFFF_FFFF) * num_units) >> 32)) >> 32;
        }
        for (lane, unit) in units.iter().enumerate() {
            counts[*unit as usize][lane] += 1;
        }
    }
}

/// The mean of every column in each resample of a block. `sums` holds the sum of every unit, column after column, and
/// `sizes` the number of rows in each unit.
pub(super) fn means(counts: &[Lanes<u16>], sums: &[f64], sizes: &[f64], out: &mut [Lanes<f64>]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions, as was just checked.
        return unsafe { means_avx512(counts, sums, sizes, out) };
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has the instructions, as was just checked.
        return unsafe { means_avx2(counts, sums, sizes, out) };
    }
    means_portable::<1>(counts, sums, sizes, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn means_avx512(counts: &[Lanes<u16>], sums: &[f64], sizes: &[f64], out: &mut [Lanes<f64>]) {
    means_portable::<8>(counts, sums, sizes, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn means_avx2(counts: &[Lanes<u16>], sums: &[f64], sizes: &[f64], out: &mut [Lanes<f64>]) {
    means_portable::<2>(counts, sums, sizes, out);
}

#[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
#[inline(always)]
fn means_portable<const COLUMNS: usize>(counts: &[Lanes<u16>], sums: &[f64], sizes: &[f64], out: &mut [Lanes<f64>]) {
    let mut weights = vec![[0.0; LANES]; counts.len()];
    for (weights, counts) in weights.iter_mut().zip(counts) {
        for (weight, count) in weights.iter_mut().zip(counts) {
            *weight = f64::from(*count);
        }
    }
    let mut total_size = [[0.0; LANES]];
    weighted::<COLUMNS>(&weights, sizes, &mut total_size);
    weighted::<COLUMNS>(&weights, sums, out);
    for total in out {
        for (total, size) in total.iter_mut().zip(&total_size[0]) {
            *total /= size;
        }
    }
}

/// Weighted sum of every column of `num_units` values.
///
/// `COLUMNS` columns are weighted side by side, because the additions of one column alone wait for each other; their
/// sums must fit the registers.
#[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
#[inline(always)]
fn weighted<const COLUMNS: usize>(weights: &[Lanes<f64>], columns: &[f64], out: &mut [Lanes<f64>]) {
    let num_units = weights.len();
    for (columns, out) in columns.chunks(COLUMNS * num_units).zip(out.chunks_mut(COLUMNS)) {
        if let Ok(out) = <&mut [Lanes<f64>; COLUMNS]>::try_from(&mut *out) {
            *out = side_by_side(
                weights,
                std::array::from_fn(|at| &columns[at * num_units..][..num_units]),
            );
        } else {
            for (column, out) in columns.chunks_exact(num_units).zip(out) {
                [*out] = side_by_side(weights, [column]);
            }
        }
    }
}

#[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
#[inline(always)]
fn side_by_side<const N: usize>(weights: &[Lanes<f64>], columns: [&[f64]; N]) -> [Lanes<f64>; N] {
    let mut totals = [[0.0; LANES]; N];
    for (unit, weights) in weights.iter().enumerate() {
        for (totals, column) in totals.iter_mut().zip(columns) {
            for (total, weight) in totals.iter_mut().zip(weights) {
                *total += weight * column[unit];
            }
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_processor_gives_the_same_bits() {
        let counts: Vec<Lanes<u16>> = (0..40)
            .map(|unit| std::array::from_fn(|lane| (unit * lane % 5) as u16 + 1))
            .collect();
        let columns: Vec<f64> = (0..11 * 40).map(|at| (f64::from(at) * 0.7).sin()).collect();
        let sizes: Vec<f64> = (0..40).map(|unit| f64::from(unit % 3 + 1)).collect();
        let bits = |run: &dyn Fn(&mut [Lanes<f64>])| {
            let mut out = [[0.0; LANES]; 11];
            run(&mut out);
            out.map(|lanes| lanes.map(f64::to_bits))
        };
        let here = bits(&|out| means(&counts, &columns, &sizes, out));
        assert_eq!(here, bits(&|out| means_portable::<1>(&counts, &columns, &sizes, out)));
        assert_eq!(here, bits(&|out| means_portable::<3>(&counts, &columns, &sizes, out)));
        let of = |values: &[f64]| -> f64 { (0..40).map(|unit| f64::from(counts[unit][3]) * values[unit]).sum() };
        assert!((f64::from_bits(here[10][3]) - of(&columns[400..]) / of(&sizes)).abs() < 1e-12);
    }

    #[test]
    fn any_processor_draws_the_same_units_as_the_definition() {
        for num_units in [1, 7, 64, 65_535] {
            let (mut here, mut portable) = (vec![[0; LANES]; num_units], vec![[0; LANES]; num_units]);
            draw(3, 11, &mut here);
            draw_portable(3, 11, &mut portable);
            let mut expected = vec![[0; LANES]; num_units];
            for (lane, resample) in (3 * LANES..4 * LANES).enumerate() {
                let mut state = mix(11).wrapping_add(mix(resample as u64 ^ 0x5851_F42D_4C95_7F2D));
                for _ in 0..num_units {
                    state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                    let unit = ((u128::from(mix(state)) * num_units as u128) >> 64) as usize;
                    expected[unit][lane] += 1;
                }
            }
            assert!(here == expected && portable == expected, "{num_units}");
        }
    }
}
