//! Encode documents, read token shards, sample windows.

use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadwriteArray2};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;

use super::ingest::{Row, row};
use super::run;
use crate::error::Result;
use crate::window::Sampling;
use crate::{contiguous, encode, overlap, pack, sampler, split};

/// Encodes documents on all threads.
#[pyclass(frozen, module = "tttkit._rust")]
pub struct Encoder(pub Arc<encode::Encoder>);

#[pymethods]
impl Encoder {
    /// `split_special` encodes a text that spells a special token as ordinary text.
    #[new]
    #[pyo3(signature = (tokenizer_json, *, split_special = false))]
    fn new(py: Python<'_>, tokenizer_json: &str, split_special: bool) -> PyResult<Self> {
        let encoder = run(py, || encode::Encoder::new(tokenizer_json))?;
        let encoder = if split_special {
            encoder.split_special()
        } else {
            encoder
        };
        Ok(Self(Arc::new(encoder)))
    }

    /// The tokenizer.json in its shortest form, without truncation or padding.
    #[getter]
    fn json(&self) -> &str {
        self.0.json()
    }

    /// The vocabulary size: every id is below it.
    #[getter]
    fn vocab_size(&self) -> u32 {
        self.0.vocab_size()
    }

    /// The id of a token of the vocabulary, or None.
    fn token_id(&self, token: &str) -> Option<u32> {
        self.0.token_id(token)
    }

    /// The tokens that the file marks as special, with their ids.
    #[getter]
    fn special_tokens(&self) -> Vec<(String, u32)> {
        self.0.special_tokens().to_vec()
    }

    /// The share of merges that the file wants to drop at random, which this encoder never does. None if it is 0.
    #[getter]
    fn dropout(&self) -> Option<f32> {
        self.0.dropout()
    }

    /// Whether the tokenizer is encoded here, without the `tokenizers` crate.
    #[getter]
    fn is_byte_level_bpe(&self) -> bool {
        self.0.is_byte_level_bpe()
    }

    /// Why the `tokenizers` crate encodes the text, in one sentence. None if it does not.
    #[getter]
    fn reason(&self) -> Option<&str> {
        self.0.reason()
    }

    /// The instructions in use, `avx512`, `avx2` or `scalar`: the best of this processor, or those that `TTTKIT_SIMD`
    /// named.
    #[getter]
    fn simd(&self) -> &'static str {
        self.0.simd().name()
    }

    /// The ids of all documents in one array, and the offset of each document in it, with the total as the last offset.
    #[pyo3(signature = (documents, num_threads = 0))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        documents: Vec<String>,
        num_threads: usize,
    ) -> PyResult<(Bound<'py, PyArray1<u32>>, Bound<'py, PyArray1<u64>>)> {
        let (ids, offsets) = run(py, || {
            let encoded = self.0.encode(&documents, num_threads)?;
            let mut offsets = vec![0_u64];
            for ids in &encoded {
                offsets.push(offsets[offsets.len() - 1] + ids.len() as u64);
            }
            Ok((encoded.concat(), offsets))
        })?;
        Ok((ids.into_pyarray(py), offsets.into_pyarray(py)))
    }
}

/// The shards of one split as one stream of tokens.
#[pyclass(frozen, module = "tttkit._rust")]
pub struct TokenSplit(Arc<split::TokenSplit>);

#[pymethods]
impl TokenSplit {
    #[new]
    #[pyo3(signature = (paths, mapped = true))]
    fn new(py: Python<'_>, paths: Vec<PathBuf>, mapped: bool) -> PyResult<Self> {
        run(py, || split::TokenSplit::open(&paths, mapped)).map(|split| Self(Arc::new(split)))
    }

    /// (tokens, documents, vocabulary size, largest id) in the header of every shard.
    #[getter]
    fn headers(&self) -> Vec<(u64, u64, u32, u32)> {
        let headers = self.0.shards().iter().map(|shard| *shard.header());
        headers
            .map(|header| {
                (
                    header.num_tokens,
                    header.num_documents,
                    header.vocab_size,
                    header.max_token,
                )
            })
            .collect()
    }

    #[getter]
    fn num_tokens(&self) -> u64 {
        self.0.num_tokens()
    }

    #[getter]
    fn num_documents(&self) -> u64 {
        self.0.num_documents()
    }

    /// Tokens `start .. stop` as uint32.
    fn tokens<'py>(&self, py: Python<'py>, start: u64, stop: u64) -> PyResult<Bound<'py, PyArray1<u32>>> {
        if start > stop || stop > self.0.num_tokens() {
            return Err(PyValueError::new_err(format!(
                "tokens {start}..{stop} are not in a split of {}",
                self.0.num_tokens()
            )));
        }
        let ids = run(py, || {
            let mut ids = vec![0_u32; (stop - start) as usize];
            self.0.read(start, &mut ids).map(|()| ids)
        })?;
        Ok(ids.into_pyarray(py))
    }

    /// Position after the last token of each document.
    fn document_ends<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<u64>>> {
        Ok(run(py, || self.0.document_ends())?.into_pyarray(py))
    }

    /// Write tokens `start .. stop`, with the ends of their documents, as a shard. Returns (name, tokens, documents,
    /// largest id, SHA-256).
    fn write_shard(&self, py: Python<'_>, start: u64, stop: u64, path: PathBuf) -> PyResult<Row> {
        run(py, || pack::write_range(&self.0, start..stop, &path)).map(row)
    }

    /// (passages, found): how many passages of this split were looked up in `whole`, and how many are there.
    fn overlap(&self, py: Python<'_>, whole: &Self) -> PyResult<(u64, u64)> {
        run(py, || overlap::overlap(&self.0, &whole.0))
    }

    /// Check every shard: its SHA-256, its ids and its index of documents.
    fn verify(&self, py: Python<'_>, digests: Vec<String>) -> PyResult<()> {
        run(py, || self.0.verify(&digests))
    }
}

/// The windows of one rank, step by step.
#[pyclass(frozen, module = "tttkit._rust")]
pub struct Sampler(sampler::Sampler);

#[pymethods]
impl Sampler {
    #[new]
    #[pyo3(signature = (split, *, window, batch_size, seed, rank, world_size))]
    fn new(split: &TokenSplit, window: u64, batch_size: u64, seed: u64, rank: u64, world_size: u64) -> Self {
        let sampling = Sampling {
            num_windows: split.0.num_tokens().saturating_sub(1) / window.max(1),
            batch_size,
            seed,
            rank,
            world_size,
        };
        Self(sampler::Sampler::new(Arc::clone(&split.0), window, sampling))
    }

    /// The shuffled windows of a step, int64 `(batch_size, window + 1)`.
    fn batch<'py>(&self, py: Python<'py>, step: i64) -> PyResult<Bound<'py, PyArray2<i64>>> {
        let shape = self.shape();
        let Some(len) = shape[0].checked_mul(shape[1]).filter(|&len| fits_memory(len)) else {
            return Err(PyMemoryError::new_err(format!("a batch of {shape:?} is too large")));
        };
        // SAFETY: nothing reads the array before all of it is written; if that fails, it is dropped unread.
        let (array, target) = unsafe {
            let array = PyArray2::<i64>::new(py, shape, false);
            let places = array.data().cast::<MaybeUninit<i64>>();
            (array, std::slice::from_raw_parts_mut(places, len))
        };
        let step = not_negative(step)?;
        run(py, || self.0.gather(step, target))?;
        Ok(array)
    }

    /// Fill `target`, `(batch_size, window + 1)`, with the windows that `batch` would return.
    fn fill(&self, py: Python<'_>, mut target: PyReadwriteArray2<'_, i64>, step: i64) -> PyResult<()> {
        let target = self.rows(&mut target)?;
        let step = not_negative(step)?;
        run(py, || self.0.gather(step, target))
    }

    /// Fill `target`, `(batch_size, window + 1)`, with the windows that contiguous rows read at a step.
    ///
    /// Returns which rows must start from the initial state, bool `(batch_size,)`.
    fn fill_contiguous<'py>(
        &self,
        py: Python<'py>,
        mut target: PyReadwriteArray2<'_, i64>,
        step: u64,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        let target = self.rows(&mut target)?;
        let (split, window) = (self.0.split(), self.0.window());
        let resets = run(py, || {
            let rows = contiguous::windows(self.0.sampling(), step)?;
            let windows: Vec<u64> = rows.iter().map(|row| row.window).collect();
            split.gather(&windows, window, target)?;
            rows.iter()
                .map(|&row| split.resets(row, window))
                .collect::<Result<Vec<bool>>>()
        })?;
        Ok(resets.into_pyarray(py))
    }
}

impl Sampler {
    /// The shape of a batch: (batch size, window + 1).
    fn shape(&self) -> [usize; 2] {
        [self.0.sampling().batch_size as usize, self.0.window() as usize + 1]
    }

    fn rows<'a>(&self, target: &'a mut PyReadwriteArray2<'_, i64>) -> PyResult<&'a mut [MaybeUninit<i64>]> {
        let shape = target.as_array().dim();
        if shape != self.shape().into() {
            return Err(PyValueError::new_err(format!(
                "a batch has shape {:?}, got an array of shape {shape:?}",
                self.shape()
            )));
        }
        let places = target.as_slice_mut()?;
        // SAFETY: this is the same memory; `gather` writes only initialized numbers to it.
        Ok(unsafe { &mut *(std::ptr::from_mut(places) as *mut [MaybeUninit<i64>]) })
    }
}

fn not_negative(step: i64) -> PyResult<u64> {
    u64::try_from(step).map_err(|_| PyValueError::new_err(format!("step must be at least 0, got {step}")))
}

/// Whether there is memory for `len` int64. numpy's own error would not name the reason.
fn fits_memory(len: usize) -> bool {
    len < 1 << 20 || Vec::<i64>::new().try_reserve_exact(len).is_ok()
}
