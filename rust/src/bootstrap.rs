//! Paired bootstrap over sequences: how sure a difference between two contexts is.

use rayon::prelude::*;

use crate::chunk::{Chunking, sum};
use crate::error::{Error, Result};
use crate::window::mix;

/// Bounds of the percentile 95 % interval, in thousandths.
const QUANTILES: [usize; 2] = [25, 975];

/// Difference `b - a` of the mean NLL of one chunk, in nats, with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Observed difference.
    pub difference: f64,
    /// 2.5 % quantile of the resampled differences.
    pub low: f64,
    /// 97.5 % quantile.
    pub high: f64,
}

/// Resample whole sequences with replacement, the same draw for both arguments and all chunks.
///
/// `a` and `b` are row-major with rows of `row_len`. The draw of resample `r` depends on `(seed, r)` alone, so the
/// result is the same for any number of threads.
///
/// # Errors
/// When the shapes differ or are empty, or there is no resample.
pub fn paired_bootstrap(
    a: &[f32],
    b: &[f32],
    row_len: usize,
    chunking: &Chunking,
    num_resamples: usize,
    seed: u64,
) -> Result<Vec<Interval>> {
    if a.len() != b.len() || a.is_empty() || row_len == 0 {
        return Err(Error::Value(
            "both arguments must have the same shape and at least one sequence".into(),
        ));
    }
    if num_resamples == 0 {
        return Err(Error::Value("num_resamples must be at least 1".into()));
    }
    let spans = chunking.spans(row_len)?;
    let differences = chunk_differences(a, b, row_len, &spans);
    let num_chunks = spans.len();
    let resampled: Vec<f64> = (0..num_resamples as u64)
        .into_par_iter()
        .flat_map_iter(|resample| mean_of_draw(&differences, num_chunks, seed, resample))
        .collect();
    let intervals = (0..num_chunks).into_par_iter().map(|chunk| {
        let observed = differences.iter().skip(chunk).step_by(num_chunks);
        let mut values: Vec<f64> = resampled.iter().skip(chunk).step_by(num_chunks).copied().collect();
        values.sort_unstable_by(f64::total_cmp);
        Interval {
            difference: observed.sum::<f64>() / (a.len() / row_len) as f64,
            low: quantile(&values, QUANTILES[0]),
            high: quantile(&values, QUANTILES[1]),
        }
    });
    Ok(intervals.collect())
}

/// Mean of `b - a` per sequence and chunk, row-major over sequences.
fn chunk_differences(a: &[f32], b: &[f32], row_len: usize, spans: &[(usize, usize)]) -> Vec<f64> {
    let rows = a.chunks_exact(row_len).zip(b.chunks_exact(row_len));
    rows.flat_map(|(a, b)| {
        spans
            .iter()
            .map(|&(start, end)| (sum(&b[start..end]) - sum(&a[start..end])) / (end - start) as f64)
    })
    .collect()
}

/// Mean over as many sequences as there are, drawn with replacement.
fn mean_of_draw(differences: &[f64], num_chunks: usize, seed: u64, resample: u64) -> Vec<f64> {
    let num_rows = differences.len() / num_chunks;
    let mut state = mix(seed).wrapping_add(mix(resample ^ 0x5851_F42D_4C95_7F2D));
    let mut sums = vec![0.0; num_chunks];
    for _ in 0..num_rows {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let row = ((u128::from(mix(state)) * num_rows as u128) >> 64) as usize;
        let values = &differences[row * num_chunks..(row + 1) * num_chunks];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += value;
        }
    }
    for sum in &mut sums {
        *sum /= num_rows as f64;
    }
    sums
}

/// Quantile of sorted values, in thousandths, by linear interpolation.
fn quantile(sorted: &[f64], per_mille: usize) -> f64 {
    let scaled = per_mille * (sorted.len() - 1);
    let (below, rest) = (scaled / 1000, scaled % 1000);
    let low = sorted[below];
    let high = sorted[(below + 1).min(sorted.len() - 1)];
    low + (high - low) * (rest as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKING: Chunking = Chunking {
        window: 4,
        size: 2,
        stride: 2,
        cut_at_window: false,
    };

    #[test]
    fn equal_arguments_have_no_difference_and_a_constant_one_is_certain() {
        let a: Vec<f32> = (0..40).map(|value| value as f32).collect();
        let b: Vec<f32> = a.iter().map(|value| value + 0.5).collect();
        for interval in paired_bootstrap(&a, &a, 4, &CHUNKING, 200, 1).unwrap() {
            assert_eq!(
                interval,
                Interval {
                    difference: 0.0,
                    low: 0.0,
                    high: 0.0
                }
            );
        }
        for interval in paired_bootstrap(&a, &b, 4, &CHUNKING, 200, 1).unwrap() {
            assert!((interval.low - 0.5).abs() < 1e-12 && (interval.high - 0.5).abs() < 1e-12);
        }
    }

    #[test]
    fn same_result_for_any_number_of_threads() {
        let a: Vec<f32> = (0..400).map(|value| (value as f32).sin()).collect();
        let b: Vec<f32> = (0..400).map(|value| (value as f32).cos()).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| paired_bootstrap(&a, &b, 4, &CHUNKING, 1000, 7).unwrap())
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn shapes_are_checked() {
        assert!(paired_bootstrap(&[0.0; 4], &[0.0; 8], 4, &CHUNKING, 10, 0).is_err());
        assert!(paired_bootstrap(&[0.0; 4], &[0.0; 4], 4, &CHUNKING, 0, 0).is_err());
    }
}
