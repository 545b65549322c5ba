//! Bootstrap over sequences or documents: confidence intervals of means, medians and differences.
//!
//! A resample is a vector of counts: how often each unit was drawn. Sixteen resamples are processed side by side, so
//! that a mean is a small matrix product and a median a pass over sorted values, both without branches. The draw of
//! resample `r` depends only on `(seed, r)`, and every column is computed by itself, so any number of threads gives the
//! same bits. Fewer than 16 units get intervals of Student's t (`student.rs`), and a single one gets none.

mod draws;
mod interval;
mod median;
mod student;

use draws::Draws;
use interval::intervals;
use median::Sorted;
use student::FEWEST_UNITS;

use crate::chunk::{Chunking, span_means};
use crate::error::{Error, Result};

pub use interval::Interval;

/// The statistic over the sequences of a resample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// The mean.
    Mean,
    /// The lower median: the smaller of the two middle values.
    Median,
}

/// Intervals of `b - a` for every chunk. Whole sequences are resampled with replacement, with the same draw for both
/// arguments and all chunks.
///
/// `a` and `b` are row-major with rows of `row_len`. The statistic is computed for each and then subtracted. With
/// `groups`, whole groups of sequences are drawn, as in `means`.
///
/// # Errors
/// When the shapes differ or are empty, `num_resamples` is 0, or medians are combined with groups.
#[expect(clippy::too_many_arguments, reason = "named in Python")]
pub fn paired_bootstrap(
    a: &[f32],
    b: &[f32],
    row_len: usize,
    chunking: &Chunking,
    statistic: Statistic,
    groups: Option<&[u32]>,
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
            means(&differences, spans.len(), groups, num_resamples, seed)
        }
        Statistic::Median if groups.is_some() => Err(Error::Value("groups can be resampled for means only".into())),
        Statistic::Median => {
            let draws = Draws::new(a.len() / spans.len(), num_resamples, seed)?;
            let (a, b) = (Sorted::columns(&a, spans.len()), Sorted::columns(&b, spans.len()));
            let observed: Vec<f64> = a.iter().zip(&b).map(|(a, b)| b.median() - a.median()).collect();
            let known = finite(&observed);
            let figures: Vec<f64> = known.iter().map(|&column| observed[column]).collect();
            let intervals = intervals(&figures, &draws, |counts, out| {
                for (&column, out) in known.iter().zip(out) {
                    let (high, low) = (b[column].medians(counts), a[column].medians(counts));
                    *out = std::array::from_fn(|lane| high[lane] - low[lane]);
                }
            });
            let few = draws.num_units < FEWEST_UNITS;
            let intervals = if few {
                student::of_medians(&intervals, draws.num_units)
            } else {
                intervals
            };
            Ok(at_all_columns(&observed, intervals))
        }
    }
}

/// Intervals of the means of the columns of `values`, row-major `(rows, num_columns)`. Rows are resampled, or whole
/// groups of rows if `groups` gives the group of each row; then a mean is over the rows of the drawn groups.
///
/// # Errors
/// When there is no row, `num_resamples` is 0, or `groups` does not have one entry per row.
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
    let known = finite(&observed);
    let figures: Vec<f64> = known.iter().map(|&column| observed[column]).collect();
    let sums: Vec<f64> = known
        .iter()
        .flat_map(|&column| &sums[column * num_groups..][..num_groups])
        .copied()
        .collect();
    let draws = Draws::new(num_groups, num_resamples, seed)?;
    let intervals = if num_groups < FEWEST_UNITS {
        student::of_means(&figures, &sums, &sizes)
    } else {
        intervals(&figures, &draws, |counts, out| draws::means(counts, &sums, &sizes, out))
    };
    Ok(at_all_columns(&observed, intervals))
}

/// The columns whose observed figure is known. In the others every figure is NaN, even though some draws miss the
/// sequence that has the NaN.
fn finite(observed: &[f64]) -> Vec<usize> {
    (0..observed.len())
        .filter(|&column| observed[column].is_finite())
        .collect()
}

/// One interval per observed figure; `known` are those of the finite ones, in order.
fn at_all_columns(observed: &[f64], known: Vec<Interval>) -> Vec<Interval> {
    let mut known = known.into_iter();
    let intervals = observed.iter().map(|&observed| {
        let interval = if observed.is_finite() { known.next() } else { None };
        interval.unwrap_or(Interval::unknown(observed))
    });
    intervals.collect()
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
    fn equal_arguments_differ_by_zero_and_a_constant_difference_has_no_spread() {
        let a: Vec<f32> = (0..40).map(|value| value as f32).collect();
        let b: Vec<f32> = a.iter().map(|value| value + 0.5).collect();
        for statistic in BOTH {
            for interval in paired_bootstrap(&a, &a, 4, &CHUNKING, statistic, None, 200, 1).unwrap() {
                let all = [
                    interval.observed,
                    interval.low,
                    interval.high,
                    interval.band_low,
                    interval.band_high,
                ];
                assert!(all.iter().all(|value| value.abs() < f64::MIN_POSITIVE));
            }
        }
        for interval in paired_bootstrap(&a, &b, 4, &CHUNKING, Statistic::Mean, None, 200, 1).unwrap() {
            assert!((interval.low - 0.5).abs() < 1e-12 && (interval.band_high - 0.5).abs() < 1e-9);
        }
    }

    #[test]
    fn same_bits_for_any_number_of_threads() {
        let a: Vec<f32> = (0..400).map(|value| (value as f32).sin()).collect();
        let b: Vec<f32> = (0..400).map(|value| (value as f32).cos()).collect();
        for statistic in BOTH {
            let run = |threads, seed| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| paired_bootstrap(&a, &b, 4, &CHUNKING, statistic, None, 1001, seed).unwrap())
            };
            assert_eq!(run(1, 7), run(3, 7));
            assert_ne!(run(1, 7), run(1, 8), "another seed gives other intervals");
        }
    }

    #[test]
    fn a_single_unit_has_no_interval() {
        let values = [1.0, 2.0, 3.0, 6.0];
        let grouped = means(&values, 1, Some(&[0; 4]), 50, 0).unwrap()[0];
        assert!(grouped.low.is_nan() && grouped.band_high.is_nan());
        for statistic in BOTH {
            let single = paired_bootstrap(&[1.0, 2.0], &[2.0, 4.0], 2, &CHUNKING, statistic, None, 50, 0).unwrap()[0];
            assert!(single.low.is_nan() && single.high.is_nan() && single.band_low.is_nan());
            assert!((single.observed - 1.5).abs() < 1e-12);
        }
    }

    #[test]
    fn a_group_has_the_weight_of_its_rows() {
        let values: Vec<f64> = (0..24).map(|row| f64::from(row * 7 % 24)).collect();
        let groups: Vec<u32> = (0..24).map(|row| row / 2 + row / 20 * 2).collect();
        let interval = means(&values, 1, Some(&groups), 500, 0).unwrap()[0];
        assert!((interval.observed - 11.5).abs() < 1e-12 && interval.low < 11.0 && interval.high > 12.0);
        // Two equal groups of eight rows each leave no doubt about the mean.
        let equal: Vec<f64> = (0..16).map(|row| f64::from(row % 8)).collect();
        let groups: Vec<u32> = (0..16).map(|row| row / 8).collect();
        let interval = means(&equal, 1, Some(&groups), 500, 0).unwrap()[0];
        assert_eq!((interval.low, interval.observed, interval.high), (3.5, 3.5, 3.5));
    }

    #[test]
    fn a_median_of_values_with_nan_is_nan_and_other_columns_keep_their_bits() {
        let a: Vec<f32> = (0..160).map(|value| (value as f32 * 0.7).sin()).collect();
        let mut hidden = a.clone();
        hidden[42] = f32::NAN;
        let b: Vec<f32> = (0..160).map(|value| (value as f32 * 0.7).cos()).collect();
        for statistic in BOTH {
            let run = |a: &[f32]| paired_bootstrap(a, &b, 8, &CHUNKING, statistic, None, 99, 3).unwrap();
            let (known, some) = (run(&a), run(&hidden));
            assert!(some[1].observed.is_nan() && some[1].low.is_nan());
            assert_eq!((known[0].low, known[3].high), (some[0].low, some[3].high));
        }
    }

    #[test]
    fn shapes_are_checked() {
        let paired = |a: &[f32], b: &[f32], resamples| {
            paired_bootstrap(a, b, 4, &CHUNKING, Statistic::Mean, None, resamples, 0).is_err()
        };
        assert!(paired(&[0.0; 4], &[0.0; 8], 10) && paired(&[0.0; 4], &[0.0; 4], 0));
        assert!(means(&[], 1, None, 9, 0).is_err() && means(&[1.0], 1, Some(&[0, 1]), 9, 0).is_err());
    }
}
