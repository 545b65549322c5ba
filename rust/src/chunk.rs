//! Per-chunk statistics of per-token NLL, as the evaluation protocol (`docs/protocol.md`) defines them.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::median::{BLOCK_COLUMNS, Rows};
use crate::sums::add_sums;

/// With fewer values than this a second thread costs more than it saves.
const PARALLEL_VALUES: usize = 1 << 19;
/// Rows whose sums are added together.
const BLOCK_ROWS: usize = 64;

/// How a chunk is aggregated over sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    /// Mean over all tokens of the chunk.
    Mean,
    /// Mean per sequence, then the lower median over sequences, as in the earlier system.
    Median,
}

/// Which positions belong to which chunk.
#[derive(Debug, Clone, Copy)]
pub struct Chunking {
    /// Training window W in tokens.
    pub window: usize,
    /// Positions K in a chunk.
    pub size: usize,
    /// Positions S between the starts of two chunks.
    pub stride: usize,
    /// Cut a chunk at W if its center is below W and its end above W, as the earlier system did.
    pub cut_at_window: bool,
}

/// One chunk: its place and its statistics.
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
    /// Tokens in the chunk, over all sequences.
    pub num_tokens: usize,
}

impl Chunking {
    /// Starts and ends of all chunks within `len` positions.
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
    /// As for `spans`, or when there is no row.
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

/// Mean over all tokens of every span. Rows are added in blocks of a fixed size, and blocks in order, so the result
/// does not depend on the number of threads.
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

/// Lower median over rows of the mean of every span, NaN if any mean is. A few spans are computed at a time, so that their sums stay in the
/// caches and no new pages of memory are needed.
fn medians(nll: &[f32], row_len: usize, spans: &[(usize, usize)]) -> Vec<f64> {
    let block = |spans: &[(usize, usize)]| {
        let mut sums = Rows::zeros(nll.len() / row_len, spans.len());
        let stride = sums.stride();
        add_row_sums(nll, row_len, spans, sums.as_mut_slice(), stride);
        // All sums of a span have the same number of positions, so they have the order of the means.
        let mean = |(sum, &(start, end)): (f64, &(usize, usize))| sum / (end - start) as f64;
        let medians = sums.lower_medians(nll.len() >= PARALLEL_VALUES);
        medians.into_iter().zip(spans).map(mean).collect::<Vec<f64>>()
    };
    if nll.len() < PARALLEL_VALUES {
        spans.chunks(BLOCK_COLUMNS).flat_map(block).collect()
    } else {
        spans.par_chunks(BLOCK_COLUMNS).flat_map_iter(block).collect()
    }
}

/// Mean of every span of every row, row-major `(rows, spans)`.
pub fn span_means(nll: &[f32], row_len: usize, spans: &[(usize, usize)]) -> Vec<f64> {
    let mut means = vec![0.0; nll.len() / row_len * spans.len()];
    add_row_sums(nll, row_len, spans, &mut means, spans.len());
    let lengths: Vec<f64> = spans.iter().map(|&(start, end)| (end - start) as f64).collect();
    for row in means.chunks_exact_mut(spans.len()) {
        for (value, length) in row.iter_mut().zip(&lengths) {
            *value /= length;
        }
    }
    means
}

/// Add the sum of every span of every row to `sums`, in which a row begins every `stride` values.
fn add_row_sums(nll: &[f32], row_len: usize, spans: &[(usize, usize)], sums: &mut [f64], stride: usize) {
    let add = |(row, out): (&[f32], &mut [f64])| add_sums(row, spans, out);
    if nll.len() < PARALLEL_VALUES {
        nll.chunks_exact(row_len)
            .zip(sums.chunks_exact_mut(stride))
            .for_each(add);
    } else {
        nll.par_chunks_exact(row_len)
            .zip(sums.par_chunks_exact_mut(stride))
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
    fn same_bits_for_any_number_of_threads() {
        let (num_rows, row_len) = (700, 800); // enough values for several threads
        assert!(num_rows * row_len > PARALLEL_VALUES);
        // Values of very different sizes, so that rounding reveals the order of addition.
        let nll: Vec<f32> = (0..num_rows * row_len)
            .map(|at| ((at as f32 * 0.7).sin() * 12.0).exp())
            .collect();
        for aggregate in [Aggregate::Mean, Aggregate::Median] {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let chunks = pool.install(|| CHUNKING.aggregate(&nll, row_len, aggregate).unwrap());
                chunks.iter().map(|chunk| chunk.nll.to_bits()).collect::<Vec<_>>()
            };
            assert_eq!(run(1), run(2));
            assert_eq!(run(1), run(5));
        }
    }

    #[test]
    fn a_chunk_across_the_window_is_cut_only_if_its_center_is_before_it() {
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
    fn invalid_arguments_are_errors() {
        assert!(Chunking { size: 0, ..CHUNKING }.spans(9).is_err());
        assert!(CHUNKING.spans(1).is_err());
        assert!(CHUNKING.aggregate(&[], 5, Aggregate::Mean).is_err());
    }
}
