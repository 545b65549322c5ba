//! The errors of this crate, with messages for the user.

use std::path::{Path, PathBuf};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// One variant per kind of failure; `bindings` maps each variant to a Python class.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A token shard that is damaged or inconsistent.
    #[error("{}: {reason}", path.display())]
    Shard { path: PathBuf, reason: String },
    /// Text or ids that cannot be used.
    #[error("{0}")]
    Data(String),
    /// A tokenizer file that the `tokenizers` crate rejects.
    #[error("cannot load the tokenizer: {0}")]
    Tokenizer(String),
    /// An argument outside its range.
    #[error("{0}")]
    Value(String),
    /// The operating system refused a file operation.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl Error {
    /// Make a shard error for `path`.
    pub fn shard(path: &Path, reason: impl Into<String>) -> Self {
        Self::Shard {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// Add the path to an error of the operating system; for use with `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
