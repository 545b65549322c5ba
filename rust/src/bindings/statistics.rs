//! Chunk statistics and bootstrap over NLL arrays.

use numpy::{IntoPyArray, PyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::run;
use crate::bootstrap;
use crate::chunk::{Aggregate, Chunking};

type Floats<'py> = Bound<'py, PyArray1<f64>>;
type Integers<'py> = Bound<'py, PyArray1<i64>>;

/// (centers, ends, NLL, number of tokens) of every chunk.
#[pyfunction]
#[pyo3(signature = (nll, *, window, chunk_size, chunk_stride, median, cut_at_window))]
pub fn chunk_statistics<'py>(
    py: Python<'py>,
    nll: PyReadonlyArray2<'py, f32>,
    window: usize,
    chunk_size: usize,
    chunk_stride: usize,
    median: bool,
    cut_at_window: bool,
) -> PyResult<(Integers<'py>, Integers<'py>, Floats<'py>, Integers<'py>)> {
    let chunking = Chunking {
        window,
        size: chunk_size,
        stride: chunk_stride,
        cut_at_window,
    };
    let aggregate = if median { Aggregate::Median } else { Aggregate::Mean };
    let row_len = nll.shape()[1];
    let values = contiguous(&nll)?;
    let chunks = run(py, || chunking.aggregate(values, row_len, aggregate))?;
    let integers = |select: fn(&crate::chunk::Chunk) -> usize| {
        chunks
            .iter()
            .map(|chunk| select(chunk).cast_signed() as i64)
            .collect::<Vec<_>>()
            .into_pyarray(py)
    };
    Ok((
        integers(|chunk| chunk.center),
        integers(|chunk| chunk.end),
        chunks
            .iter()
            .map(|chunk| chunk.nll)
            .collect::<Vec<_>>()
            .into_pyarray(py),
        integers(|chunk| chunk.num_tokens),
    ))
}

/// (difference b - a, low, high) in nats of every chunk.
#[pyfunction]
#[pyo3(signature = (a, b, *, chunk_size, chunk_stride, num_resamples, seed))]
pub fn paired_bootstrap<'py>(
    py: Python<'py>,
    a: PyReadonlyArray2<'py, f32>,
    b: PyReadonlyArray2<'py, f32>,
    chunk_size: usize,
    chunk_stride: usize,
    num_resamples: usize,
    seed: u64,
) -> PyResult<(Floats<'py>, Floats<'py>, Floats<'py>)> {
    if a.shape() != b.shape() {
        return Err(PyValueError::new_err("both arguments must have the same shape"));
    }
    let chunking = Chunking {
        window: 1,
        size: chunk_size,
        stride: chunk_stride,
        cut_at_window: false,
    };
    let row_len = a.shape()[1];
    let (a, b) = (contiguous(&a)?, contiguous(&b)?);
    let intervals = run(py, || {
        bootstrap::paired_bootstrap(a, b, row_len, &chunking, num_resamples, seed)
    })?;
    let floats =
        |select: fn(&bootstrap::Interval) -> f64| intervals.iter().map(select).collect::<Vec<_>>().into_pyarray(py);
    Ok((
        floats(|value| value.difference),
        floats(|value| value.low),
        floats(|value| value.high),
    ))
}

fn contiguous<'a>(array: &'a PyReadonlyArray2<'_, f32>) -> PyResult<&'a [f32]> {
    array
        .as_slice()
        .map_err(|_| PyValueError::new_err("nll must be C-contiguous"))
}
