//! Draws: how often each resample draws each unit.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::window::mix;

/// Resamples that are processed side by side, in SIMD lanes.
pub(super) const LANES: usize = 16;
pub(super) type Lanes<T> = [T; LANES];

/// For every resample, how often each unit was drawn.
pub(super) struct Draws {
    pub num_units: usize,
    pub num_resamples: usize,
    /// `(blocks, units)`, one lane per resample. Lanes past the last resample are drawn too and dropped later.
    pub counts: Vec<Lanes<u16>>,
}

impl Draws {
    pub fn new(num_units: usize, num_resamples: usize, seed: u64) -> Result<Self> {
        if num_resamples == 0 {
            return Err(Error::Value("num_resamples must be at least 1".into()));
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
            .for_each(|(block, counts)| {
                for (lane, resample) in (block * LANES..(block + 1) * LANES).enumerate() {
                    let resample = resample as u64;
                    let mut state = mix(seed).wrapping_add(mix(resample ^ 0x5851_F42D_4C95_7F2D));
                    for _ in 0..num_units {
                        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
                        let unit = ((u128::from(mix(state)) * num_units as u128) >> 64) as usize;
                        counts[unit][lane] += 1;
                    }
                }
            });
        Ok(Self {
            num_units,
            num_resamples,
            counts,
        })
    }
}

/// Columns that are weighted side by side, because the additions of one column alone wait for each other.
const COLUMNS: usize = 4;

/// Weighted sum of every column of `num_units` values.
pub(super) fn weighted(weights: &[Lanes<f64>], columns: &[f64], out: &mut [Lanes<f64>]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions, as was just checked.
        return unsafe { weighted_avx512(weights, columns, out) };
    }
    weighted_portable(weights, columns, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn weighted_avx512(weights: &[Lanes<f64>], columns: &[f64], out: &mut [Lanes<f64>]) {
    weighted_portable(weights, columns, out);
}

#[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
#[inline(always)]
fn weighted_portable(weights: &[Lanes<f64>], columns: &[f64], out: &mut [Lanes<f64>]) {
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
        let weights: Vec<Lanes<f64>> = (0..40)
            .map(|unit| std::array::from_fn(|lane| (unit * lane % 5) as f64))
            .collect();
        let columns: Vec<f64> = (0..7 * 40).map(|at| (f64::from(at) * 0.7).sin()).collect();
        let (mut here, mut portable) = ([[0.0; LANES]; 7], [[0.0; LANES]; 7]);
        weighted(&weights, &columns, &mut here);
        weighted_portable(&weights, &columns, &mut portable);
        assert_eq!(
            here.map(|lanes| lanes.map(f64::to_bits)),
            portable.map(|lanes| lanes.map(f64::to_bits))
        );
        let expected: f64 = (0..40).map(|unit| weights[unit][3] * columns[6 * 40 + unit]).sum();
        assert!((here[6][3] - expected).abs() < 1e-12);
    }
}
