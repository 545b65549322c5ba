//! Sources to shards.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::data::Encoder;
use super::run;
use crate::encode;
use crate::ingest::{self, Kept, Rule, Settings};
use crate::shard::ShardInfo;

type Rows = Vec<(String, u64, u64, u32, String)>;

/// Reads, cuts, encodes and packs on all threads of the encoder.
#[pyclass(frozen, module = "tttkit._rust")]
pub struct Ingest {
    ingest: ingest::Ingest,
    encoder: Arc<encode::Encoder>,
}

#[pymethods]
impl Ingest {
    #[new]
    #[pyo3(signature = (encoder, directory, *, vocab_size, eos_id, shard_tokens, documents, validation_fraction, kept))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword-only, and the Python wrapper is the interface"
    )]
    fn new(
        py: Python<'_>,
        encoder: &Encoder,
        directory: PathBuf,
        vocab_size: u32,
        eos_id: u32,
        shard_tokens: u64,
        documents: &str,
        validation_fraction: f64,
        kept: Kept,
    ) -> PyResult<Self> {
        let rule = Rule::parse(documents)
            .ok_or_else(|| PyValueError::new_err(format!("unknown document rule `{documents}`")))?;
        let settings = Settings {
            directory: &directory,
            vocab_size,
            eos_id,
            shard_tokens,
            rule,
            fraction: validation_fraction,
            kept,
        };
        Ok(Self {
            ingest: run(py, || ingest::Ingest::new(&settings))?,
            encoder: Arc::clone(&encoder.0),
        })
    }

    /// Read these text files next.
    fn add_paths(&self, paths: Vec<PathBuf>) {
        self.ingest.add_paths(paths);
    }

    /// Take these documents next.
    fn add_documents(&self, documents: Vec<String>) {
        self.ingest.add_documents(documents);
    }

    /// Everything added from now on is held out.
    fn hold_out_all(&self) {
        self.ingest.hold_out_all();
    }

    /// Work on about `num_bytes` of what was added; false when it is used up.
    fn run(&self, py: Python<'_>, num_bytes: u64) -> PyResult<bool> {
        run(py, || self.ingest.run(&self.encoder, num_bytes))
    }

    /// (documents, tokens, bytes, words) of the training and of the validation split so far.
    fn counts(&self) -> Vec<(u64, u64, u64, u64)> {
        let counts = self.ingest.counts().into_iter();
        counts
            .map(|split| (split.num_documents, split.num_tokens, split.num_bytes, split.num_words))
            .collect()
    }

    /// (name, tokens, documents, largest id, SHA-256) of the shards of both splits that are whole on disk so far.
    fn finished(&self) -> Vec<Rows> {
        self.ingest.finished().map(rows).into()
    }

    /// Encode what is left and close the last shards. Returns the shards of both splits in order, as `finished`.
    fn finish(&self, py: Python<'_>) -> PyResult<Vec<Rows>> {
        Ok(run(py, || self.ingest.finish(&self.encoder))?.map(rows).into())
    }
}

fn rows(shards: Vec<ShardInfo>) -> Rows {
    let row = |shard: ShardInfo| {
        let header = shard.header;
        (
            shard.name,
            header.num_tokens,
            header.num_documents,
            header.max_token,
            shard.sha256,
        )
    };
    shards.into_iter().map(row).collect()
}
