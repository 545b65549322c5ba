//! Which units each resample draws, and how often.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::window::mix;

/// Resamples that are worked on side by side.
pub(super) const LANES: usize = 16;
pub(super) type Lanes<T> = [T; LANES];

/// How often each unit was drawn, for every resample.
pub(super) struct Draws {
    pub num_units: usize,
    pub num_resamples: usize,
    /// `(blocks, units)` of lanes; lanes past the last resample are drawn too and left out later.
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

/// Sum of values, each as often as it was drawn.
pub(super) fn weighted(weights: &[Lanes<f64>], values: &[f64]) -> Lanes<f64> {
    let mut total = [0.0; LANES];
    for (weights, value) in weights.iter().zip(values) {
        for (total, weight) in total.iter_mut().zip(weights) {
            *total += weight * value;
        }
    }
    total
}
