//! Everything that can go wrong below the bindings, in words for the user.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// One kind of failure per variant; `bindings` maps each to a Python class.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A token shard that cannot be what it claims to be.
    #[error("{}: {reason}", path.display())]
    Shard { path: PathBuf, reason: String },
    /// Text or ids that cannot be packed.
    #[error("{0}")]
    Data(String),
    /// A tokenizer file that the `tokenizers` crate refuses.
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
    /// A shard error for `path`.
    pub fn shard(path: &Path, reason: impl Into<String>) -> Self {
        Self::Shard {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    /// Names the path in an error of the operating system; for `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
