//! Per-token NLL to per-chunk statistics, as the evaluation protocol defines them.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::median::Rows;

/// Below so many values a second thread costs more than it saves.
const PARALLEL_VALUES: usize = 1 << 19;
/// Rows whose sums are added up together.
const BLOCK_ROWS: usize = 64;

/// How a chunk is aggregated over sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// Mean over all tokens of the chunk.
    Mean,
    /// Mean per sequence, then the lower median over sequences: the earlier system's.
    Median,
}

/// Which positions belong to which chunk.
#[derive(Debug, Clone, Copy)]
pub struct Chunking {
    /// Training window W in tokens.
    pub window: usize,
    /// Positions K of a chunk.
    pub size: usize,
    /// Positions S between starts.
    pub stride: usize,
    /// Cut a chunk at W when its center is below W and its end above: the earlier system's habit.
    pub cut_at_window: bool,
}

/// One chunk: where it lies and what it came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chunk {
    /// First position.
    pub start: usize,
    /// `start + K / 2`.
    pub center: usize,
    /// Position after the last.
    pub end: usize,
    /// Mean (or lower median) NLL in nats.
    pub nll: f64,
    /// Tokens it rests on, over all sequences.
    pub num_tokens: usize,
}

impl Chunking {
    /// Starts and ends of all chunks that lie within `len` positions.
    ///
    /// # Errors
    /// When a size is zero or no chunk fits.
    pub fn spans(&self, len: usize) -> Result<Vec<(usize, usize)>> {
        if self.size == 0 || self.stride == 0 || self.window == 0 {
            return Err(Error::Value(
                "window, chunk_size and chunk_stride must be at least 1".into(),
            ));
        }
        if len < self.size {
            return Err(Error::Value(format!(
                "chunk_size {} is longer than the {len} positions of nll",
                self.size
            )));
        }
        let starts = (0..=len - self.size).step_by(self.stride);
        Ok(starts.map(|start| (start, self.end(start))).collect())
    }

    fn end(&self, start: usize) -> usize {
        let end = start + self.size;
        if self.cut_at_window && start + self.size / 2 < self.window && end > self.window {
            self.window
        } else {
            end
        }
    }

    /// Statistics of every chunk of `nll`, row-major `(len / row_len, row_len)`, summed in f64.
    ///
    /// # Errors
    /// As `spans`, or when there is no row.
    pub fn aggregate(&self, nll: &[f32], row_len: usize, aggregate: Aggregate) -> Result<Vec<Chunk>> {
        if nll.is_empty() || row_len == 0 {
            return Err(Error::Value("nll holds no sequence".into()));
        }
        let num_rows = nll.len() / row_len;
        let spans = self.spans(row_len)?;
        let values = match aggregate {
            Aggregate::Mean => means(nll, row_len, &spans),
            Aggregate::Median => medians(nll, row_len, &spans),
        };
        let chunks = spans.iter().zip(values).map(|(&(start, end), nll)| Chunk {
            start,
            center: start + self.size / 2,
            end,
            nll,
            num_tokens: num_rows * (end - start),
        });
        Ok(chunks.collect())
    }
}

/// Add the sum of every span of a row, in f64, to the totals.
fn add_sums(row: &[f32], spans: &[(usize, usize)], totals: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has what the function was compiled for.
        return unsafe { add_sums_avx512(row, spans, totals) };
    }
    for (total, &(start, end)) in totals.iter_mut().zip(spans) {
        *total += sum(&row[start..end]);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn add_sums_avx512(row: &[f32], spans: &[(usize, usize)], totals: &mut [f64]) {
    use std::arch::x86_64::{_mm512_add_pd, _mm512_loadu_pd, _mm512_storeu_pd};
    let (eights, rest) = spans.as_chunks::<8>();
    let (totals_of_eights, totals_of_rest) = totals.as_chunks_mut::<8>();
    for (totals, spans) in totals_of_eights.iter_mut().zip(eights) {
        let side_by_side = &row[spans[0].0..spans[7].1];
        if let ([], [eight]) = (
            side_by_side.as_chunks::<16>().1,
            side_by_side.as_chunks::<16>().0.as_chunks::<8>().0,
        ) && spans.windows(2).all(|pair| pair[0].1 == pair[1].0)
        {
            let sums = sums_of_eight_avx512(eight);
            // SAFETY: eight numbers are read and written where there are eight.
            unsafe {
                let before = _mm512_loadu_pd(totals.as_ptr());
                _mm512_storeu_pd(totals.as_mut_ptr(), _mm512_add_pd(before, sums));
            }
        } else {
            for (total, &(start, end)) in totals.iter_mut().zip(spans) {
                *total += sum_avx512(&row[start..end]);
            }
        }
    }
    for (total, &(start, end)) in totals_of_rest.iter_mut().zip(rest) {
        *total += sum_avx512(&row[start..end]);
    }
}

/// As `sum` of each of eight chunks of the usual size, to the last bit: the partial sums of all eight are added at once.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sums_of_eight_avx512([a, b, c, d, e, f, g, h]: &[[f32; 16]; 8]) -> std::arch::x86_64::__m512d {
    use std::arch::x86_64::{
        _mm256_loadu_ps, _mm512_add_pd, _mm512_cvtps_pd, _mm512_shuffle_f64x2, _mm512_unpackhi_pd, _mm512_unpacklo_pd,
    };
    let lanes = |values: &[f32; 16]| {
        // SAFETY: eight numbers are read where there are sixteen, from the first and from the ninth on.
        let (low, high) = unsafe {
            (
                _mm256_loadu_ps(values.as_ptr()),
                _mm256_loadu_ps(values.as_ptr().add(8)),
            )
        };
        _mm512_add_pd(_mm512_cvtps_pd(low), _mm512_cvtps_pd(high))
    };
    // Of two chunks at a time: lanes 0-3 plus 4-7, then of four chunks: lanes 0-1 plus 2-3, then of eight: 0 plus 1.
    let four = |a, b| {
        let (a, b) = (lanes(a), lanes(b));
        _mm512_add_pd(_mm512_shuffle_f64x2::<0x44>(a, b), _mm512_shuffle_f64x2::<0xEE>(a, b))
    };
    let two = |a, b| _mm512_add_pd(_mm512_shuffle_f64x2::<0x88>(a, b), _mm512_shuffle_f64x2::<0xDD>(a, b));
    let (even, odd) = (two(four(a, c), four(e, g)), two(four(b, d), four(f, h)));
    _mm512_add_pd(_mm512_unpacklo_pd(even, odd), _mm512_unpackhi_pd(even, odd))
}

/// As `sum`, to the last bit. Left to itself the compiler uses a quarter of a register.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn sum_avx512(values: &[f32]) -> f64 {
    use std::arch::x86_64::{
        _mm_add_pd, _mm_cvtsd_f64, _mm_unpackhi_pd, _mm256_add_pd, _mm256_castpd256_pd128, _mm256_extractf128_pd,
        _mm256_loadu_ps, _mm512_add_pd, _mm512_castpd512_pd256, _mm512_cvtps_pd, _mm512_extractf64x4_pd,
        _mm512_setzero_pd,
    };
    // SAFETY: eight numbers are read where there are eight.
    let widened = |eight: &[f32; 8]| _mm512_cvtps_pd(unsafe { _mm256_loadu_ps(eight.as_ptr()) });
    let (whole, rest) = values.as_chunks::<8>();
    let lanes = whole
        .iter()
        .fold(_mm512_setzero_pd(), |lanes, eight| _mm512_add_pd(lanes, widened(eight)));
    let four = _mm256_add_pd(_mm512_castpd512_pd256(lanes), _mm512_extractf64x4_pd::<1>(lanes));
    let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
    let total = _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
    rest.iter().fold(total, |total, &value| total + f64::from(value))
}

/// Sum in f64. Eight partial sums, added in a fixed order: the same on every machine.
fn sum(values: &[f32]) -> f64 {
    let whole = values.chunks_exact(8);
    let rest = whole.remainder();
    let mut lanes = [0.0_f64; 8];
    for eight in whole {
        for (lane, &value) in lanes.iter_mut().zip(eight) {
            *lane += f64::from(value);
        }
    }
    let four: [f64; 4] = std::array::from_fn(|lane| lanes[lane] + lanes[lane + 4]);
    let total = (four[0] + four[2]) + (four[1] + four[3]);
    rest.iter().fold(total, |total, &value| total + f64::from(value))
}

/// Mean over all tokens of every span. Rows are added in blocks of a fixed size, blocks in order, so the result does not
/// depend on the number of threads.
fn means(nll: &[f32], row_len: usize, spans: &[(usize, usize)]) -> Vec<f64> {
    let block_sums = |block: &[f32]| {
        let mut sums = vec![0.0; spans.len()];
        for row in block.chunks_exact(row_len) {
            add_sums(row, spans, &mut sums);
        }
        sums
    };
    let blocks: Vec<Vec<f64>> = if nll.len() < PARALLEL_VALUES {
        nll.chunks(BLOCK_ROWS * row_len).map(block_sums).collect()
    } else {
        nll.par_chunks(BLOCK_ROWS * row_len).map(block_sums).collect()
    };
    let num_rows = nll.len() / row_len;
    let mean = |(index, &(start, end)): (usize, &(usize, usize))| {
        blocks.iter().map(|block| block[index]).sum::<f64>() / (num_rows * (end - start)) as f64
    };
    spans.iter().enumerate().map(mean).collect()
}

/// Lower median over rows of the mean of every span.
fn medians(nll: &[f32], row_len: usize, spans: &[(usize, usize)]) -> Vec<f64> {
    let mut sums = Rows::zeros(nll.len() / row_len, spans.len());
    let stride = sums.stride();
    add_row_sums(nll, row_len, spans, sums.as_mut_slice(), stride);
    // All sums of a span are of as many positions: their order is that of the means.
    let mean = |(sum, &(start, end)): (f64, &(usize, usize))| sum / (end - start) as f64;
    let medians = sums.lower_medians(nll.len() >= PARALLEL_VALUES);
    medians.into_iter().zip(spans).map(mean).collect()
}

/// Mean of every span of every row, row-major `(rows, spans)`.
pub fn span_means(nll: &[f32], row_len: usize, spans: &[(usize, usize)]) -> Vec<f64> {
    let mut found = vec![0.0; nll.len() / row_len * spans.len()];
    add_row_sums(nll, row_len, spans, &mut found, spans.len());
    let lengths: Vec<f64> = spans.iter().map(|&(start, end)| (end - start) as f64).collect();
    for row in found.chunks_exact_mut(spans.len()) {
        for (value, length) in row.iter_mut().zip(&lengths) {
            *value /= length;
        }
    }
    found
}

/// Add the sum of every span of every row to `found`, where a row begins every `stride` values.
fn add_row_sums(nll: &[f32], row_len: usize, spans: &[(usize, usize)], found: &mut [f64], stride: usize) {
    let add = |(row, out): (&[f32], &mut [f64])| add_sums(row, spans, out);
    if nll.len() < PARALLEL_VALUES {
        nll.chunks_exact(row_len)
            .zip(found.chunks_exact_mut(stride))
            .for_each(add);
    } else {
        nll.par_chunks_exact(row_len)
            .zip(found.par_chunks_exact_mut(stride))
            .for_each(add);
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

    #[test]
    fn mean_and_lower_median_of_known_values() {
        let nll = [1.0, 3.0, 0.0, 0.0, 5.0, 7.0, 2.0, 4.0, 9.0, 9.0];
        let mean = CHUNKING.aggregate(&nll, 5, Aggregate::Mean).unwrap();
        assert_eq!(mean.iter().map(|c| c.nll).collect::<Vec<_>>(), [3.25, 3.25]);
        let median = CHUNKING.aggregate(&nll, 5, Aggregate::Median).unwrap();
        assert_eq!(median.iter().map(|c| c.nll).collect::<Vec<_>>(), [2.0, 0.0]);
        assert_eq!((mean[1].center, mean[1].end, mean[1].num_tokens), (3, 4, 4));
    }

    #[test]
    fn any_processor_gives_the_same_bits() {
        let row: Vec<f32> = (0..200).map(|at| (at as f32 * 0.7).sin() * 9.0).collect();
        let spans: Vec<(usize, usize)> = (0..100).map(|at| (at, 2 * at)).collect();
        let mut totals = vec![0.0; spans.len()];
        add_sums(&row, &spans, &mut totals);
        for (total, (start, end)) in totals.into_iter().zip(spans) {
            assert_eq!(total.to_bits(), (0.0 + sum(&row[start..end])).to_bits());
        }
    }

    #[test]
    fn a_chunk_across_the_window_is_cut_only_when_its_center_lies_before() {
        let chunking = Chunking {
            window: 10,
            size: 7,
            stride: 3,
            cut_at_window: true,
        };
        let spans = chunking.spans(20).unwrap();
        assert_eq!(spans, [(0, 7), (3, 10), (6, 10), (9, 16), (12, 19)]);
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(Chunking { size: 0, ..CHUNKING }.spans(9).is_err());
        assert!(CHUNKING.spans(1).is_err());
        assert!(CHUNKING.aggregate(&[], 5, Aggregate::Mean).is_err());
    }
}
