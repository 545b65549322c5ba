//! Intervals for few units, where resampling understates the spread: Student's t instead of percentiles.
//!
//! With n units, the percentile interval of a mean excludes the true value in 50 % (n = 2), 17 % (n = 5) and 8 %
//! (n = 16) of trials instead of 5 % (`benchmarks/false_alarms.py`).

use std::f64::consts::FRAC_PI_2;

use super::interval::Interval;

/// From this number of units on, intervals are percentiles of resamples.
pub(super) const FEWEST_UNITS: usize = 16;
/// Probability on either side of a 95 % interval.
const TAIL: f64 = 0.025;
/// Percentile intervals reach this many standard errors to either side if figures are normally distributed.
const NORMAL_REACH: f64 = 1.959_963_984_540_054;

/// Intervals of means over all rows. `sums` holds the sum of every group of rows, column after column, and `sizes` the
/// number of rows in each group. The standard error is that of a mean over clusters; with one row per group it is the
/// usual one.
pub(super) fn of_means(observed: &[f64], sums: &[f64], sizes: &[f64]) -> Vec<Interval> {
    let num_groups = sizes.len();
    let num_rows: f64 = sizes.iter().sum();
    let reach = quantile(num_groups, TAIL);
    let inflation = num_groups as f64 / (num_groups as f64 - 1.0);
    let columns = observed.iter().zip(sums.chunks_exact(num_groups)).map(|(&mean, sums)| {
        let squares: f64 = sums
            .iter()
            .zip(sizes)
            .map(|(sum, size)| (sum - size * mean).powi(2))
            .sum();
        let half_width = reach * (inflation * squares).sqrt() / num_rows;
        (mean, half_width)
    });
    symmetric(columns, observed.len(), num_groups)
}

/// Widen percentile intervals of medians: the further end counts on both sides, and the distance grows from that of the
/// normal distribution to that of Student's t.
pub(super) fn of_medians(intervals: &[Interval], num_units: usize) -> Vec<Interval> {
    let units = num_units as f64;
    let factor = quantile(num_units, TAIL) * (units / (units - 1.0)).sqrt() / NORMAL_REACH;
    let columns = intervals.iter().map(|interval| {
        let further = (interval.observed - interval.low).max(interval.high - interval.observed);
        (interval.observed, factor * further)
    });
    symmetric(columns, intervals.len(), num_units)
}

/// Intervals around observed figures. The simultaneous band divides the error by the number of columns (Bonferroni).
/// One unit has no spread, so nothing is known.
fn symmetric(columns: impl Iterator<Item = (f64, f64)>, num_columns: usize, num_units: usize) -> Vec<Interval> {
    let wider = quantile(num_units, TAIL / num_columns as f64) / quantile(num_units, TAIL);
    let interval = |(observed, half_width): (f64, f64)| {
        if num_units < 2 {
            return Interval::unknown(observed);
        }
        Interval {
            observed,
            low: observed - half_width,
            high: observed + half_width,
            band_low: observed - wider * half_width,
            band_high: observed + wider * half_width,
        }
    };
    columns.map(interval).collect()
}

/// The value that Student's t with `num_units - 1` degrees of freedom exceeds with the probability `tail`. It is found
/// by bisection of the angle `atan(t / sqrt(degrees))`.
fn quantile(num_units: usize, tail: f64) -> f64 {
    let degrees = num_units.max(2) - 1;
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..64 {
        let middle = f64::midpoint(low, high);
        if exceeded(degrees, middle) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    (degrees as f64).sqrt() * low.tan()
}

/// The probability that Student's t exceeds `sqrt(degrees) * tan(angle)`. The series are equations 26.7.3 and 26.7.4 of
/// Abramowitz and Stegun, Handbook of Mathematical Functions.
fn exceeded(degrees: usize, angle: f64) -> f64 {
    let (sine, cosine) = angle.sin_cos();
    let is_even = degrees.is_multiple_of(2);
    let (first, mut term) = if is_even { (1, sine) } else { (2, sine * cosine) };
    let mut sum = if degrees == 1 { 0.0 } else { term };
    for at in (first..degrees.saturating_sub(first)).step_by(2) {
        term *= cosine * cosine * at as f64 / (at + 1) as f64;
        sum += term;
    }
    let within = if is_even { sum } else { (angle + sum) / FRAC_PI_2 };
    0.5 * (1.0 - within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_published_tables() {
        let tables = [
            (1, 0.025, 12.706),
            (2, 0.025, 4.303),
            (3, 0.025, 3.182),
            (4, 0.025, 2.776),
            (7, 0.005, 3.499),
            (10, 0.0005, 4.587),
            (15, 0.025, 2.131),
            (14, 0.1, 1.345),
        ];
        for (degrees, tail, expected) in tables {
            let found = quantile(degrees + 1, tail);
            assert!((found - expected).abs() < 6e-4, "{degrees} {tail}: {found}");
        }
    }

    #[test]
    fn a_mean_has_the_textbook_interval_and_one_unit_has_none() {
        let interval = of_means(&[2.0], &[1.0, 2.0, 3.0], &[1.0; 3])[0];
        assert!((interval.high - 2.0 - 4.302_652_7 / 3.0_f64.sqrt()).abs() < 1e-6);
        assert!((interval.low + interval.high - 4.0).abs() < 1e-12);
        let single = of_means(&[2.0], &[2.0], &[1.0])[0];
        assert!(single.low.is_nan() && single.band_high.is_nan() && (single.observed - 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_band_of_many_columns_is_wider_than_their_intervals() {
        let sums = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let both = of_means(&[2.0, 5.0], &sums, &[1.0; 3]);
        assert!(both[1].band_high > both[1].high + 0.5);
        let one = of_means(&[2.0], &sums[..3], &[1.0; 3])[0];
        assert!((one.band_high - one.high).abs() < 1e-12);
    }
}
