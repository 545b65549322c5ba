//! Chunk statistics and bootstrap of NLL arrays.

use numpy::{Element, IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::run;
use crate::bootstrap::{self, Interval, Statistic};
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
    let values = contiguous_slice(&nll)?;
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

/// (observed, low, high, band low, band high) of every column, float64.
type Figures<'py> = (Floats<'py>, Floats<'py>, Floats<'py>, Floats<'py>, Floats<'py>);

/// `b - a` in nats for every chunk, with its interval and its part of a simultaneous band.
#[pyfunction]
#[pyo3(signature = (a, b, groups=None, *, chunk_size, chunk_stride, median, num_resamples, seed))]
#[expect(clippy::too_many_arguments, reason = "named in Python")]
pub fn paired_bootstrap<'py>(
    py: Python<'py>,
    a: PyReadonlyArray2<'py, f32>,
    b: PyReadonlyArray2<'py, f32>,
    groups: Option<PyReadonlyArray1<'py, u32>>,
    chunk_size: usize,
    chunk_stride: usize,
    median: bool,
    num_resamples: usize,
    seed: u64,
) -> PyResult<Figures<'py>> {
    if a.shape() != b.shape() {
        return Err(PyValueError::new_err("both arguments must have the same shape"));
    }
    let chunking = Chunking {
        window: 1,
        size: chunk_size,
        stride: chunk_stride,
        cut_at_window: false,
    };
    let statistic = if median { Statistic::Median } else { Statistic::Mean };
    let row_len = a.shape()[1];
    let (a, b) = (contiguous_slice(&a)?, contiguous_slice(&b)?);
    let groups = groups.as_ref().map(PyReadonlyArray1::as_slice).transpose()?;
    let intervals = run(py, || {
        bootstrap::paired_bootstrap(a, b, row_len, &chunking, statistic, groups, num_resamples, seed)
    })?;
    Ok(figures(py, &intervals))
}

/// Means of columns, resampled by rows, or by groups of rows if `groups` is given.
#[pyfunction]
#[pyo3(signature = (values, groups=None, *, num_resamples, seed))]
pub fn bootstrap_means<'py>(
    py: Python<'py>,
    values: PyReadonlyArray2<'py, f64>,
    groups: Option<PyReadonlyArray1<'py, u32>>,
    num_resamples: usize,
    seed: u64,
) -> PyResult<Figures<'py>> {
    let num_columns = values.shape()[1];
    let values = contiguous_slice(&values)?;
    let groups = groups.as_ref().map(PyReadonlyArray1::as_slice).transpose()?;
    let intervals = run(py, || {
        bootstrap::means(values, num_columns, groups, num_resamples, seed)
    })?;
    Ok(figures(py, &intervals))
}

fn figures<'py>(py: Python<'py>, intervals: &[Interval]) -> Figures<'py> {
    let floats = |select: fn(&Interval) -> f64| intervals.iter().map(select).collect::<Vec<_>>().into_pyarray(py);
    (
        floats(|value| value.observed),
        floats(|value| value.low),
        floats(|value| value.high),
        floats(|value| value.band_low),
        floats(|value| value.band_high),
    )
}

fn contiguous_slice<'a, T: Element>(array: &'a PyReadonlyArray2<'_, T>) -> PyResult<&'a [T]> {
    array
        .as_slice()
        .map_err(|_| PyValueError::new_err("the array must be C-contiguous"))
}
