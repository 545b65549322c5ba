//! Bootstrap over sequences or over documents: how sure a mean, a median or a difference is.
//!
//! A resample is a vector of counts: how often each unit was drawn. Sixteen resamples are worked on side by side, so
//! that a mean is a small matrix product and a median a walk over sorted values, both without a branch. The draw of
//! resample `r` depends on `(seed, r)` alone and every column is treated by itself: any number of threads gives the
//! same bits.

use rayon::prelude::*;

use crate::chunk::{Chunking, span_means};
use crate::error::{Error, Result};
use crate::window::mix;

/// Resamples that are worked on side by side.
const LANES: usize = 16;
/// Bounds of the percentile 95 % interval, in thousandths.
const QUANTILES: [usize; 2] = [25, 975];
/// Share of resamples that stay inside the simultaneous band, in thousandths.
const INSIDE: usize = 950;

type Lanes<T> = [T; LANES];

/// What is taken over the sequences of a resample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// Mean.
    Mean,
    /// The smaller of the two middle values.
    Median,
}

/// One figure with its 95 % interval and its place in a simultaneous 95 % band over all figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Observed.
    pub observed: f64,
    /// 2.5 % quantile of the resampled figures.
    pub low: f64,
    /// 97.5 % quantile.
    pub high: f64,
    /// Lower end of the max-t band, which holds all figures at once in 95 % of resamples.
    pub band_low: f64,
    /// Upper end.
    pub band_high: f64,
}

/// Resample whole sequences with replacement, the same draw for both arguments and all chunks: `b - a` per chunk.
///
/// `a` and `b` are row-major with rows of `row_len`; the statistic is taken of each and then subtracted.
///
/// # Errors
/// When the shapes differ or are empty, or there is no resample.
pub fn paired_bootstrap(
    a: &[f32],
    b: &[f32],
    row_len: usize,
    chunking: &Chunking,
    statistic: Statistic,
    num_resamples: usize,
    seed: u64,
) -> Result<Vec<Interval>> {
    if a.len() != b.len() || a.is_empty() || row_len == 0 {
        return Err(Error::Value(
            "both arguments must have the same shape and at least one sequence".into(),
        ));
    }
    let spans = chunking.spans(row_len)?;
    let (a, b) = (span_means(a, row_len, &spans), span_means(b, row_len, &spans));
    match statistic {
        Statistic::Mean => {
            let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b - a).collect();
            means(&differences, spans.len(), None, num_resamples, seed)
        }
        Statistic::Median => {
            let draws = Draws::new(a.len() / spans.len(), num_resamples, seed)?;
            let (a, b) = (Sorted::columns(&a, spans.len()), Sorted::columns(&b, spans.len()));
            let observed: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b.median() - a.median()).collect();
            Ok(intervals(&observed, &draws, |counts, out| {
                for ((a, b), out) in a.iter().zip(&b).zip(out) {
                    let (high, low) = (b.medians(counts), a.medians(counts));
                    *out = std::array::from_fn(|lane| high[lane] - low[lane]);
                }
            }))
        }
    }
}

/// Means of the columns of `values`, row-major `(rows, num_columns)`, resampled by rows, or by groups of rows where
/// `groups` names the group of each: then whole groups are drawn, and a mean is over the rows that were drawn.
///
/// # Errors
/// When there is no row or no resample, or `groups` has another length than there are rows.
pub fn means(
    values: &[f64],
    num_columns: usize,
    groups: Option<&[u32]>,
    num_resamples: usize,
    seed: u64,
) -> Result<Vec<Interval>> {
    if values.is_empty() || num_columns == 0 {
        return Err(Error::Value("values must hold at least one row and one column".into()));
    }
    let num_rows = values.len() / num_columns;
    let group_of = |row: usize| groups.map_or(row, |groups| groups[row] as usize);
    if groups.is_some_and(|groups| groups.len() != num_rows) {
        return Err(Error::Value(format!(
            "groups must name one group for each of {num_rows} rows"
        )));
    }
    let num_groups = (0..num_rows).map(group_of).max().unwrap_or(0) + 1;
    let mut sizes = vec![0.0; num_groups];
    let mut sums = vec![0.0; num_groups * num_columns]; // column-major
    for (row, values) in values.chunks_exact(num_columns).enumerate() {
        sizes[group_of(row)] += 1.0;
        for (column, value) in values.iter().enumerate() {
            sums[column * num_groups + group_of(row)] += value;
        }
    }
    let observed: Vec<f64> = sums
        .chunks_exact(num_groups)
        .map(|column| column.iter().sum::<f64>() / num_rows as f64)
        .collect();
    let draws = Draws::new(num_groups, num_resamples, seed)?;
    Ok(intervals(&observed, &draws, |counts, out| {
        let weights: Vec<Lanes<f64>> = counts.iter().map(|lanes| lanes.map(f64::from)).collect();
        let total_size = weighted(&weights, &sizes);
        for (column, out) in sums.chunks_exact(num_groups).zip(out) {
            let total = weighted(&weights, column);
            *out = std::array::from_fn(|lane| total[lane] / total_size[lane]);
        }
    }))
}

/// How often each unit was drawn, for every resample.
struct Draws {
    num_units: usize,
    num_resamples: usize,
    /// `(blocks, units)` of lanes; lanes past the last resample are drawn too and left out later.
    counts: Vec<Lanes<u16>>,
}

impl Draws {
    fn new(num_units: usize, num_resamples: usize, seed: u64) -> Result<Self> {
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

/// Resampled figures of every column, summed up to intervals. `fill` writes those of one block of resamples.
fn intervals(observed: &[f64], draws: &Draws, fill: impl Fn(&[Lanes<u16>], &mut [Lanes<f64>]) + Sync) -> Vec<Interval> {
    let num_columns = observed.len();
    let mut resampled = vec![[0.0; LANES]; draws.num_resamples.div_ceil(LANES) * num_columns]; // (blocks, columns)
    resampled
        .par_chunks_exact_mut(num_columns)
        .zip(draws.counts.par_chunks_exact(draws.num_units))
        .for_each(|(out, counts)| fill(counts, out));
    let values = |column: usize| {
        let lanes = resampled.iter().skip(column).step_by(num_columns).flatten();
        lanes.copied().take(draws.num_resamples)
    };
    let columns: Vec<(Interval, f64)> = (0..num_columns)
        .into_par_iter()
        .map(|column| summarise(observed[column], values(column).collect()))
        .collect();
    let furthest = columns
        .par_iter()
        .enumerate()
        .fold(
            || vec![0.0_f64; draws.num_resamples],
            |mut furthest, (column, &(interval, error))| {
                if error > 0.0 {
                    for (most, value) in furthest.iter_mut().zip(values(column)) {
                        *most = most.max((value - interval.observed).abs() / error);
                    }
                }
                furthest
            },
        )
        .reduce(
            || vec![0.0_f64; draws.num_resamples],
            |left, right| left.iter().zip(&right).map(|(a, b)| a.max(*b)).collect(),
        );
    let reach = student(quantiles(furthest, &[INSIDE])[0], draws.num_units);
    let banded = columns.into_iter().map(|(interval, error)| Interval {
        band_low: interval.observed - reach * error,
        band_high: interval.observed + reach * error,
        ..interval
    });
    banded.collect()
}

/// A bound of the normal distribution as one of Student's t, and of a standard error that divides by n as one that
/// divides by n - 1: without it the band of 60 sequences and 60 chunks is left in 9 % of searches, not in 5 %.
fn student(reach: f64, num_units: usize) -> f64 {
    let degrees = (num_units.max(2) - 1) as f64;
    let cubic = (reach.powi(3) + reach) / (4.0 * degrees);
    let quintic = (5.0 * reach.powi(5) + 16.0 * reach.powi(3) + 3.0 * reach) / (96.0 * degrees.powi(2));
    (reach + cubic + quintic) * ((degrees + 1.0) / degrees).sqrt()
}

/// Interval of one column and the standard deviation of its resampled figures. What was not observed is NaN in every
/// figure, though a draw may have missed the sequence that holds the NaN.
fn summarise(observed: f64, values: Vec<f64>) -> (Interval, f64) {
    if !observed.is_finite() {
        let unknown = f64::NAN;
        let interval = Interval {
            observed,
            low: unknown,
            high: unknown,
            band_low: unknown,
            band_high: unknown,
        };
        return (interval, 0.0);
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let error = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
    let bounds = quantiles(values, &QUANTILES);
    let interval = Interval {
        observed,
        low: bounds[0],
        high: bounds[1],
        band_low: observed,
        band_high: observed,
    };
    (interval, error)
}

/// Quantiles in ascending order, in thousandths, by linear interpolation.
fn quantiles(values: Vec<f64>, per_mille: &[usize]) -> Vec<f64> {
    // Integers in the order of total_cmp: they are selected twice as fast.
    let mut keys: Vec<i64> = values.into_iter().map(key).collect();
    let last = keys.len() - 1;
    let mut from = 0;
    let mut found = Vec::with_capacity(per_mille.len());
    for &wanted in per_mille {
        let scaled = wanted * last;
        let (below, rest) = (scaled / 1000, scaled % 1000);
        let (_, &mut low, above) = keys[from..].select_nth_unstable(below - from);
        let high = above.iter().min().copied().unwrap_or(low);
        let (low, high) = (value_of(low), value_of(high));
        found.push(low + (high - low) * (rest as f64 / 1000.0));
        from = below;
    }
    found
}

/// The order of `f64::total_cmp` as an order of integers; its own inverse on the bits.
fn key(value: f64) -> i64 {
    let bits = value.to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

fn value_of(key: i64) -> f64 {
    let bits = key ^ ((key >> 63).cast_unsigned() >> 1).cast_signed();
    f64::from_bits(bits.cast_unsigned())
}

/// Sum of values, each as often as it was drawn.
fn weighted(weights: &[Lanes<f64>], values: &[f64]) -> Lanes<f64> {
    let mut total = [0.0; LANES];
    for (weights, value) in weights.iter().zip(values) {
        for (total, weight) in total.iter_mut().zip(weights) {
            *total += weight * value;
        }
    }
    total
}

/// A column in ascending order, with the unit that each value is of.
struct Sorted {
    values: Vec<f64>,
    units: Vec<u32>,
}

impl Sorted {
    fn columns(values: &[f64], num_columns: usize) -> Vec<Self> {
        let num_rows = values.len() / num_columns;
        let sort = |column: usize| {
            let mut units: Vec<u32> = (0..num_rows as u32).collect();
            let value = |unit: u32| values[unit as usize * num_columns + column];
            units.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
            Self {
                values: units.iter().map(|&unit| value(unit)).collect(),
                units,
            }
        };
        (0..num_columns).into_par_iter().map(sort).collect()
    }

    fn median(&self) -> f64 {
        self.values[(self.values.len() - 1) / 2]
    }

    /// Lower median of every resample: the first value by which half of the draws are counted.
    fn medians(&self, counts: &[Lanes<u16>]) -> Lanes<f64> {
        let half = self.values.len().div_ceil(2) as u16;
        let (mut counted, mut below): (Lanes<u16>, Lanes<u16>) = ([0; LANES], [0; LANES]);
        for &unit in &self.units {
            let lanes = counted.iter_mut().zip(&mut below).zip(&counts[unit as usize]);
            for ((counted, below), count) in lanes {
                *counted += count;
                *below += u16::from(*counted < half);
            }
        }
        below.map(|index| self.values[usize::from(index)])
    }
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
    const BOTH: [Statistic; 2] = [Statistic::Mean, Statistic::Median];

    #[test]
    fn equal_arguments_have_no_difference_and_a_constant_one_is_certain() {
        let a: Vec<f32> = (0..40).map(|value| value as f32).collect();
        let b: Vec<f32> = a.iter().map(|value| value + 0.5).collect();
        for statistic in BOTH {
            for found in paired_bootstrap(&a, &a, 4, &CHUNKING, statistic, 200, 1).unwrap() {
                let all = [found.observed, found.low, found.high, found.band_low, found.band_high];
                assert!(all.iter().all(|value| value.abs() < f64::MIN_POSITIVE));
            }
        }
        for found in paired_bootstrap(&a, &b, 4, &CHUNKING, Statistic::Mean, 200, 1).unwrap() {
            assert!((found.low - 0.5).abs() < 1e-12 && (found.band_high - 0.5).abs() < 1e-9);
        }
    }

    #[test]
    fn same_bits_for_any_number_of_threads() {
        let a: Vec<f32> = (0..400).map(|value| (value as f32).sin()).collect();
        let b: Vec<f32> = (0..400).map(|value| (value as f32).cos()).collect();
        for statistic in BOTH {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| paired_bootstrap(&a, &b, 4, &CHUNKING, statistic, 1001, 7).unwrap())
            };
            assert_eq!(run(1), run(3));
        }
    }

    #[test]
    fn medians_of_draws_are_those_of_the_drawn_values() {
        let values: Vec<f64> = (0..7).map(|row| f64::from((row * 5) % 7)).collect();
        let draws = Draws::new(7, LANES, 3).unwrap();
        let found = Sorted::columns(&values, 1)[0].medians(&draws.counts);
        for (lane, median) in found.into_iter().enumerate() {
            let mut picked: Vec<f64> = (0..7)
                .flat_map(|unit| vec![values[unit]; usize::from(draws.counts[unit][lane])])
                .collect();
            picked.sort_unstable_by(f64::total_cmp);
            assert_eq!((picked.len(), picked[3]), (7, median));
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let values: Vec<f64> = (0..=1000).rev().map(|value| f64::from(value) - 500.0).collect();
        assert_eq!(quantiles(values, &[25, 975]), [-475.0, 475.0]);
        assert_eq!(quantiles(vec![2.0, -1.0], &[500]), [0.5]);
    }

    #[test]
    fn one_group_of_everything_leaves_nothing_to_chance() {
        let values = [1.0, 2.0, 3.0, 6.0];
        let found = means(&values, 1, Some(&[0; 4]), 50, 0).unwrap()[0];
        assert_eq!((found.low, found.observed, found.high), (3.0, 3.0, 3.0));
        let alone = means(&values, 1, None, 500, 0).unwrap()[0];
        assert!(alone.low < 2.0 && alone.high > 4.0 && alone.band_high > 3.0);
    }

    #[test]
    fn shapes_are_checked() {
        let paired = |a: &[f32], b: &[f32], resamples| {
            paired_bootstrap(a, b, 4, &CHUNKING, Statistic::Mean, resamples, 0).is_err()
        };
        assert!(paired(&[0.0; 4], &[0.0; 8], 10) && paired(&[0.0; 4], &[0.0; 4], 0));
        assert!(means(&[], 1, None, 9, 0).is_err() && means(&[1.0], 1, Some(&[0, 1]), 9, 0).is_err());
    }
}
