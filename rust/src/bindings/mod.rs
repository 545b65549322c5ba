//! The Python module `tttkit._rust`. The bindings check arguments and copy or borrow them; the pure modules do the work
//! while the interpreter is released.

#![expect(
    clippy::needless_pass_by_value,
    clippy::type_complexity,
    reason = "PyO3 hands over owned arguments and turns tuples into Python's"
)]

mod data;
mod ingest;
mod statistics;

use std::io::ErrorKind;

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::marker::Ungil;
use pyo3::prelude::*;

use crate::error::{Error, Result};

mod classes {
    pyo3::import_exception!(tttkit.errors, DataError);
    pyo3::import_exception!(tttkit.errors, ShardError);
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Shard { .. } => classes::ShardError::new_err(message),
            Error::Data(_) | Error::Tokenizer(_) => classes::DataError::new_err(message),
            Error::Value(_) => PyValueError::new_err(message),
            Error::Io { path, source } if source.kind() == ErrorKind::UnexpectedEof => {
                classes::ShardError::new_err(format!("{}: the file is shorter than its header says", path.display()))
            }
            // OSError itself picks FileNotFoundError, PermissionError, … by errno.
            Error::Io { path, source } => match source.raw_os_error() {
                Some(errno) => PyOSError::new_err((errno, describe(&source), path)),
                None => PyOSError::new_err(message),
            },
        }
    }
}

/// The message of the operating system without the "(os error 2)" that Rust adds.
fn describe(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Run the work of a binding: release the interpreter, run, handle Ctrl-C, map the error. Every binding uses this.
fn run<T: Ungil + Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Ungil + Send) -> PyResult<T> {
    let result = py.detach(work);
    py.check_signals()?;
    Ok(result?)
}

#[pymodule]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<data::Encoder>()?;
    module.add_class::<ingest::Ingest>()?;
    module.add_class::<ingest::Training>()?;
    module.add_class::<data::Sampler>()?;
    module.add_class::<data::TokenSplit>()?;
    module.add_function(wrap_pyfunction!(statistics::bootstrap_means, module)?)?;
    module.add_function(wrap_pyfunction!(statistics::chunk_statistics, module)?)?;
    module.add_function(wrap_pyfunction!(statistics::paired_bootstrap, module)?)?;
    Ok(())
}
