//! Turn sources into shards.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::data::Encoder;
use super::run;
use crate::ingest::{self, Input, Kept, Rule, Settings};
use crate::shard::ShardInfo;
use crate::vocabulary;

pub type Row = (String, u64, u64, u32, String);
type Rows = Vec<Row>;

/// Reads, cuts, encodes and packs text on its own threads.
#[pyclass(frozen, module = "tttkit._rust")]
pub struct Ingest(ingest::Ingest);

#[pymethods]
impl Ingest {
    #[new]
    #[pyo3(signature = (encoder, directory, *, eos_id, shard_tokens, documents, validation_fraction, kept, num_threads, first_document = 0, count_only = false))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword-only, and the Python wrapper is the interface"
    )]
    fn new(
        py: Python<'_>,
        encoder: &Encoder,
        directory: PathBuf,
        eos_id: u32,
        shard_tokens: u64,
        documents: &str,
        validation_fraction: f64,
        kept: Kept,
        num_threads: usize,
        first_document: u64,
        count_only: bool,
    ) -> PyResult<Self> {
        let rule = parse_rule(documents)?;
        let settings = Settings {
            directory: &directory,
            eos_id,
            shard_tokens,
            rule,
            fraction: validation_fraction,
            first_document,
            count_only,
            kept,
            num_threads,
        };
        run(py, || ingest::Ingest::new(&settings, Arc::clone(&encoder.0))).map(Self)
    }

    /// Read these text files next.
    fn add_paths(&self, paths: Vec<PathBuf>) {
        self.0.add_paths(paths);
    }

    /// Take these documents next.
    fn add_documents(&self, documents: Vec<String>) {
        self.0.add_documents(documents);
    }

    /// Take these pieces next. They are part of one text, which is cut like a file and continues until `end_text`.
    fn add_text(&self, pieces: Vec<String>) {
        self.0.add_text(pieces);
    }

    /// End the text that came in pieces.
    fn end_text(&self) {
        self.0.end_text();
    }

    /// Take these pieces next. None ends a document; a document is taken as it is.
    fn add_pieces(&self, pieces: Vec<Option<String>>) {
        self.0.add_pieces(pieces);
    }

    /// Put everything added from now on into the validation split.
    fn hold_out_all(&self) {
        self.0.hold_out_all();
    }

    /// Process about `num_bytes` of the added inputs. Returns false when all of them are read.
    fn run(&self, py: Python<'_>, num_bytes: u64) -> PyResult<bool> {
        run(py, || self.0.run(num_bytes))
    }

    /// (documents, tokens, bytes, words) of the train and the validation split so far.
    fn counts(&self) -> Vec<(u64, u64, u64, u64)> {
        let counts = self.0.counts().into_iter();
        counts
            .map(|split| (split.num_documents, split.num_tokens, split.num_bytes, split.num_words))
            .collect()
    }

    /// (name, tokens, documents, largest id, SHA-256) of each shard of both splits that is finished on disk so far.
    fn finished(&self) -> Vec<Rows> {
        self.0.finished().map(rows).into()
    }

    /// Encode the rest and close the last shards. Returns the shards of both splits in order, like `finished`.
    fn finish(&self, py: Python<'_>) -> PyResult<Vec<Rows>> {
        Ok(run(py, || self.0.finish())?.map(rows).into())
    }
}

/// Counts the words of text on its own threads, and learns a byte-level BPE from the counts. Its inputs are those of
/// `Ingest`.
#[pyclass(frozen, module = "tttkit._rust")]
pub struct Training(vocabulary::Training);

#[pymethods]
impl Training {
    #[new]
    #[pyo3(signature = (expressions, *, documents, validation_fraction, num_threads))]
    fn new(
        py: Python<'_>,
        expressions: Vec<String>,
        documents: &str,
        validation_fraction: f64,
        num_threads: usize,
    ) -> PyResult<Self> {
        let rule = parse_rule(documents)?;
        run(py, || {
            vocabulary::Training::new(&expressions, rule, validation_fraction, num_threads)
        })
        .map(Self)
    }

    fn add_paths(&self, paths: Vec<PathBuf>) {
        self.0.add(paths.into_iter().map(Input::Path));
    }

    fn add_documents(&self, documents: Vec<String>) {
        self.0.add([Input::Documents(documents.into_iter())]);
    }

    fn add_text(&self, pieces: Vec<String>) {
        self.0.add(pieces.into_iter().map(Input::Text));
    }

    fn end_text(&self) {
        self.0.add([Input::EndOfText]);
    }

    fn add_pieces(&self, pieces: Vec<Option<String>>) {
        self.0.add(pieces.into_iter().map(Input::of_piece));
    }

    /// Count the words of about `num_bytes` of the added inputs. Returns false when all of them are read.
    fn run(&self, py: Python<'_>, num_bytes: u64) -> PyResult<bool> {
        run(py, || self.0.run(num_bytes))
    }

    /// Learn at most `vocab_size` tokens and return the tokenizer.json. The first token is `end_of_text`;
    /// `pre_tokenizer` is the JSON of that section.
    fn finish(&self, py: Python<'_>, vocab_size: usize, end_of_text: &str, pre_tokenizer: &str) -> PyResult<String> {
        run(py, || self.0.finish(vocab_size, end_of_text, pre_tokenizer))
    }
}

fn parse_rule(documents: &str) -> PyResult<Rule> {
    Rule::parse(documents).ok_or_else(|| PyValueError::new_err(format!("unknown document rule `{documents}`")))
}

fn rows(shards: Vec<ShardInfo>) -> Rows {
    shards.into_iter().map(row).collect()
}

/// (name, tokens, documents, largest id, SHA-256) of a shard.
pub fn row(shard: ShardInfo) -> Row {
    let header = shard.header;
    (
        shard.name,
        header.num_tokens,
        header.num_documents,
        header.max_token,
        shard.sha256,
    )
}
