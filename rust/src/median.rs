//! Lower medians of many columns at once.
//!
//! Few rows go through a network of comparisons, eight columns side by side and without a branch; many rows through a
//! selection, column by column. NaN sorts last in both.

use std::sync::OnceLock;

use rayon::prelude::*;

/// Columns that are worked on side by side.
const LANES: usize = 8;
/// Above so many rows a selection is faster than a network.
const MOST_NETWORK_ROWS: usize = 96;

/// A row and a later one: the smaller value goes to the first.
type Comparison = (u8, u8);

/// The smaller of the two middle values of every column of `values`, row-major `(rows, num_columns)`.
pub fn lower_medians(mut values: Vec<f64>, num_columns: usize, parallel: bool) -> Vec<f64> {
    let num_rows = values.len() / num_columns;
    let any_nan = values.iter().fold(false, |found, value| found | value.is_nan());
    if num_rows <= MOST_NETWORK_ROWS && num_columns >= LANES && !any_nan {
        by_network(&mut values, num_columns);
        let middle = (num_rows - 1) / 2 * num_columns;
        return values[middle..middle + num_columns].to_vec();
    }
    let block = |first: usize| {
        let width = LANES.min(num_columns - first);
        let rows = gather(&values, num_columns, first);
        (0..width).map(move |lane| select(&rows, lane))
    };
    if parallel {
        let firsts: Vec<usize> = (0..num_columns).step_by(LANES).collect();
        firsts.into_par_iter().flat_map_iter(block).collect()
    } else {
        (0..num_columns).step_by(LANES).flat_map(block).collect()
    }
}

/// Eight columns from `first` on; the last column stands in for those that are not there.
fn gather(values: &[f64], num_columns: usize, first: usize) -> Vec<[f64; LANES]> {
    let rows = values.chunks_exact(num_columns);
    rows.map(|row| std::array::from_fn(|lane| row[(first + lane).min(num_columns - 1)]))
        .collect()
}

fn select(rows: &[[f64; LANES]], lane: usize) -> f64 {
    let mut column: Vec<f64> = rows.iter().map(|row| row[lane]).collect();
    let middle = (column.len() - 1) / 2;
    *column.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Exchange values within every column until the middle row holds the lower medians. There are eight columns at least.
fn by_network(values: &mut [f64], num_columns: usize) {
    static NETWORKS: [OnceLock<Vec<Comparison>>; MOST_NETWORK_ROWS + 1] =
        [const { OnceLock::new() }; MOST_NETWORK_ROWS + 1];
    let num_rows = values.len() / num_columns;
    let network = NETWORKS[num_rows].get_or_init(|| median_network(num_rows));
    // The last eight may overlap the eight before: a column that is done already stays as it is.
    let firsts = (0..num_columns / LANES)
        .map(|block| block * LANES)
        .chain([num_columns - LANES]);
    for first in firsts {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has what the function was compiled for.
            unsafe { exchange_avx512(values, num_columns, first, network) };
            continue;
        }
        exchange(values, num_columns, first, network);
    }
}

/// As `exchange`. Left to itself the compiler stores the smaller values under a mask, and the next comparison waits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn exchange_avx512(values: &mut [f64], num_columns: usize, first: usize, network: &[Comparison]) {
    use std::arch::x86_64::{_mm512_loadu_pd, _mm512_max_pd, _mm512_min_pd, _mm512_storeu_pd};
    assert!(first + LANES <= num_columns);
    let (num_rows, start) = (values.len() / num_columns, values.as_mut_ptr());
    for &(upper, lower) in network {
        let (upper, lower) = (usize::from(upper), usize::from(lower));
        assert!(upper < lower && lower < num_rows);
        // SAFETY: both rows are there, and eight columns of each from `first` on.
        unsafe {
            let (upper, lower) = (
                start.add(upper * num_columns + first),
                start.add(lower * num_columns + first),
            );
            let (a, b) = (_mm512_loadu_pd(upper), _mm512_loadu_pd(lower));
            _mm512_storeu_pd(upper, _mm512_min_pd(a, b));
            _mm512_storeu_pd(lower, _mm512_max_pd(a, b));
        }
    }
}

fn exchange(values: &mut [f64], num_columns: usize, first: usize, network: &[Comparison]) {
    for &(upper, lower) in network {
        let (before, after) = values.split_at_mut(usize::from(lower) * num_columns);
        let upper = &mut before[usize::from(upper) * num_columns + first..][..LANES];
        for (a, b) in upper.iter_mut().zip(&mut after[first..first + LANES]) {
            (*a, *b) = (a.min(*b), a.max(*b));
        }
    }
}

/// Comparisons, each of a place with a later one, after which the lower middle value is in its place: Batcher's merge
/// exchange (Knuth, volume 3, algorithm 5.2.2M), without those that have no part in it.
fn median_network(count: usize) -> Vec<Comparison> {
    let mut sorting: Vec<Comparison> = Vec::new();
    let top = count.next_power_of_two() / 2;
    let mut merged = top;
    while merged > 0 {
        let (mut width, mut rest, mut distance) = (top, 0, merged);
        loop {
            let firsts = (0..count.saturating_sub(distance)).filter(|place| place & merged == rest);
            sorting.extend(firsts.map(|place| (place as u8, (place + distance) as u8)));
            if width == merged {
                break;
            }
            distance = width - merged;
            width /= 2;
            rest = merged;
        }
        merged /= 2;
    }
    let mut matters = vec![false; count];
    matters[(count - 1) / 2] = true;
    let mut needed: Vec<Comparison> = Vec::new();
    for &(first, second) in sorting.iter().rev() {
        if matters[usize::from(first)] || matters[usize::from(second)] {
            (matters[usize::from(first)], matters[usize::from(second)]) = (true, true);
            needed.push((first, second));
        }
    }
    needed.reverse();
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every input of zeros and ones, eight side by side: a network that finds their median finds that of all values.
    #[test]
    fn the_network_finds_the_median_of_every_input_of_zeros_and_ones() {
        for count in 1..=13_usize {
            let network = median_network(count);
            for inputs in (0..1_usize << count.max(3)).step_by(LANES) {
                let mut values: Vec<f64> = (0..count * LANES)
                    .map(|at| f64::from(u8::from((inputs + at % LANES) >> (at / LANES) & 1 == 1)))
                    .collect();
                let expected: Vec<f64> = (0..LANES)
                    .map(|lane| {
                        let ones = values
                            .iter()
                            .skip(lane)
                            .step_by(LANES)
                            .filter(|value| **value > 0.5)
                            .count();
                        f64::from(u8::from(ones > count - 1 - (count - 1) / 2))
                    })
                    .collect();
                exchange(&mut values, LANES, 0, &network);
                let middle = (count - 1) / 2 * LANES;
                assert_eq!(
                    values[middle..middle + LANES],
                    expected,
                    "{count} rows, input {inputs:b} and on"
                );
            }
        }
    }

    #[test]
    fn network_and_selection_agree_for_any_shape_and_nan_sorts_last() {
        for (num_rows, num_columns) in [(1, 1), (2, 9), (64, 79), (95, 8), (96, 30), (97, 17), (300, 5)] {
            for (unknown, parallel) in [(false, false), (true, false), (false, true), (true, true)] {
                let mut values: Vec<f64> = (0..num_rows * num_columns).map(|at| (at as f64 * 0.7).sin()).collect();
                if unknown {
                    values[0] = f64::NAN;
                }
                let expected: Vec<u64> = (0..num_columns)
                    .map(|column| {
                        let mut column: Vec<f64> = values.iter().skip(column).step_by(num_columns).copied().collect();
                        column.sort_unstable_by(f64::total_cmp);
                        column[(num_rows - 1) / 2].to_bits()
                    })
                    .collect();
                let found = lower_medians(values, num_columns, parallel);
                let found: Vec<u64> = found.into_iter().map(f64::to_bits).collect();
                assert_eq!(found, expected, "{num_rows} x {num_columns}");
            }
        }
    }
}
