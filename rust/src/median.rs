//! Lower medians of many columns at once.
//!
//! With few rows, a sorting network processes eight columns side by side, without branches. With many rows, a selection
//! processes one column at a time. A column with NaN has the median NaN.

use std::sync::OnceLock;

use rayon::prelude::*;

/// Columns that are processed side by side, in SIMD lanes.
const LANES: usize = 8;
/// Best number of columns for one call: with 64 rows they fit the first-level cache, with 4,096 rows the second-level.
pub const BLOCK_COLUMNS: usize = 5 * LANES;
/// With more rows than this, a selection is faster than a network.
const MOST_NETWORK_ROWS: usize = 96;

/// A row and a later row: the smaller value goes to the first.
type Comparison = (u8, u8);

/// Values of many columns, row after row. Every row starts at a cache line and takes whole cache lines, so that eight
/// columns never cross from one line to the next.
pub struct Rows {
    values: Vec<f64>,
    skipped: usize,
    stride: usize,
    num_columns: usize,
}

impl Rows {
    /// Make rows of zeros. There must be at least one column.
    pub fn zeros(num_rows: usize, num_columns: usize) -> Self {
        let stride = num_columns.next_multiple_of(LANES);
        let values = vec![0.0; num_rows * stride + LANES - 1];
        let skipped = values.as_ptr().align_offset(LANES * size_of::<f64>()).min(LANES - 1);
        Self {
            values,
            skipped,
            stride,
            num_columns,
        }
    }

    /// Distance in values from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// All rows, each of `stride` values; the values after the columns are padding.
    pub fn as_mut_slice(&mut self) -> &mut [f64] {
        let len = self.values.len() - (LANES - 1);
        &mut self.values[self.skipped..][..len]
    }

    /// The smaller of the two middle values of every column; NaN if the column has a NaN.
    pub fn lower_medians(&mut self, parallel: bool) -> Vec<f64> {
        let (stride, num_columns) = (self.stride, self.num_columns);
        let values = self.as_mut_slice();
        let num_rows = values.len() / stride;
        let any_nan = || values.iter().fold(false, |any, value| any | value.is_nan());
        if num_rows <= MOST_NETWORK_ROWS && !any_nan() {
            by_network(values, stride);
            return values[(num_rows - 1) / 2 * stride..][..num_columns].to_vec();
        }
        let block = |first: usize| {
            // Make one pass over the rows, which may be a page apart, instead of one pass per column.
            let rows = values.chunks_exact(stride).map(|row| row[first..].first_chunk());
            let rows: Vec<[f64; LANES]> = rows.flatten().copied().collect();
            let mut any_nan = [false; LANES];
            for row in &rows {
                for (any, value) in any_nan.iter_mut().zip(row) {
                    *any |= value.is_nan();
                }
            }
            let median = move |lane: usize| if any_nan[lane] { f64::NAN } else { select(&rows, lane) };
            (0..LANES.min(num_columns - first)).map(median)
        };
        if parallel {
            let firsts: Vec<usize> = (0..num_columns).step_by(LANES).collect();
            firsts.into_par_iter().flat_map_iter(block).collect()
        } else {
            (0..num_columns).step_by(LANES).flat_map(block).collect()
        }
    }
}

fn select(rows: &[[f64; LANES]], lane: usize) -> f64 {
    let mut column: Vec<i64> = rows.iter().map(|row| key(row[lane])).collect();
    let middle = (column.len() - 1) / 2;
    value_of(*column.select_nth_unstable(middle).1)
}

/// Map a value to an integer with the order of `f64::total_cmp`; integers are selected twice as fast.
pub fn key(value: f64) -> i64 {
    let bits = value.to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

/// Map a key back to its value.
pub fn value_of(key: i64) -> f64 {
    let bits = key ^ ((key >> 63).cast_unsigned() >> 1).cast_signed();
    f64::from_bits(bits.cast_unsigned())
}

/// Exchange values within every column until the middle row holds the lower medians.
fn by_network(values: &mut [f64], stride: usize) {
    static NETWORKS: [OnceLock<Vec<Comparison>>; MOST_NETWORK_ROWS + 1] =
        [const { OnceLock::new() }; MOST_NETWORK_ROWS + 1];
    let num_rows = values.len() / stride;
    let network = NETWORKS[num_rows].get_or_init(|| median_network(num_rows));
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has the instructions, as was just checked.
        return unsafe { exchange_avx512(values, stride, network) };
    }
    exchange(values, stride, network);
}

/// Like `exchange`, with intrinsics: the compiler alone stores the smaller values under a mask, which stalls the next
/// load.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn exchange_avx512(values: &mut [f64], stride: usize, network: &[Comparison]) {
    use std::arch::x86_64::{_mm512_loadu_pd, _mm512_max_pd, _mm512_min_pd, _mm512_storeu_pd};
    for &comparison in network {
        let (upper, lower) = compared(values, stride, comparison);
        for (upper, lower) in upper.iter_mut().zip(lower) {
            // SAFETY: each array has the eight numbers that are read and written.
            unsafe {
                let (a, b) = (_mm512_loadu_pd(upper.as_ptr()), _mm512_loadu_pd(lower.as_ptr()));
                _mm512_storeu_pd(upper.as_mut_ptr(), _mm512_min_pd(a, b));
                _mm512_storeu_pd(lower.as_mut_ptr(), _mm512_max_pd(a, b));
            }
        }
    }
}

fn exchange(values: &mut [f64], stride: usize, network: &[Comparison]) {
    for &comparison in network {
        let (upper, lower) = compared(values, stride, comparison);
        for (a, b) in upper.as_flattened_mut().iter_mut().zip(lower.as_flattened_mut()) {
            (*a, *b) = (a.min(*b), a.max(*b));
        }
    }
}

/// The values of both rows of a comparison, in groups of eight.
#[inline]
fn compared(
    values: &mut [f64],
    stride: usize,
    (upper, lower): Comparison,
) -> (&mut [[f64; LANES]], &mut [[f64; LANES]]) {
    let (before, after) = values.split_at_mut(usize::from(lower) * stride);
    let upper = &mut before[usize::from(upper) * stride..][..stride];
    (upper.as_chunks_mut().0, after[..stride].as_chunks_mut().0)
}

/// Comparisons after which the lower median is in the middle place: Batcher's merge exchange (Knuth, volume 3,
/// algorithm 5.2.2M) without the comparisons that do not affect that place.
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

    fn rows(values: &[f64], num_columns: usize) -> Rows {
        let mut rows = Rows::zeros(values.len() / num_columns, num_columns);
        let stride = rows.stride();
        for (row, given) in rows
            .as_mut_slice()
            .chunks_exact_mut(stride)
            .zip(values.chunks_exact(num_columns))
        {
            row[..num_columns].copy_from_slice(given);
        }
        rows
    }

    /// A network that finds the median of every input of zeros and ones finds the median of any values.
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
                exchange(&mut values, LANES, &network);
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
    fn network_and_selection_agree_for_any_shape_and_nan_gives_nan() {
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
                        let last = column[num_rows - 1];
                        let median = if last.is_nan() {
                            last
                        } else {
                            column[(num_rows - 1) / 2]
                        };
                        median.to_bits()
                    })
                    .collect();
                let medians = rows(&values, num_columns).lower_medians(parallel);
                let medians: Vec<u64> = medians.into_iter().map(f64::to_bits).collect();
                assert_eq!(medians, expected, "{num_rows} x {num_columns}");
            }
        }
    }
}
