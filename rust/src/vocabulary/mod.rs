//! Train a byte-level BPE on text of any size: count its words on all threads, then learn merges from the counts.
//!
//! The text goes through the same reader as a preparation, so a document is never in memory as a whole. Counts are
//! merged in the order of the blocks, and their size is bounded (`Counts`), so the result does not depend on the
//! number of threads. Merges are learned by the `tokenizers` crate.

mod counts;
mod learn;
mod words;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::ThreadPool;

use crate::encode::{lock, threads};
use crate::error::{Error, Result};
use crate::ingest::{BLOCK_BYTES, Block, Builder, Input, Reader, Rule, Target};
use counts::Counts;
use words::{Splitter, WordCuts};

/// The training of one tokenizer.
pub struct Training {
    source: Mutex<Source>,
    total: Mutex<Total>,
    splitter: Splitter,
    pool: ThreadPool,
    failed: AtomicBool,
}

/// The reader, shared by all threads, with the number of the next block.
struct Source {
    reader: Reader,
    next: u64,
    budget: u64,
}

/// Counts of the blocks before block `next`, and the counts that wait for their turn.
#[derive(Default)]
struct Total {
    counts: Counts,
    next: u64,
    waiting: BTreeMap<u64, Counts>,
}

impl Training {
    /// Count the words of the documents that `fraction` does not hold out. Each of the `expressions` cuts the words of
    /// the one before: its matches and the text between them are words. `num_threads` 0 means all cores.
    ///
    /// # Errors
    /// When an expression is invalid or the threads cannot start.
    pub fn new(expressions: &[String], rule: Rule, fraction: f64, num_threads: usize) -> Result<Self> {
        Ok(Self {
            source: Mutex::new(Source {
                reader: Reader::new(rule, Builder::new(BLOCK_BYTES, fraction, [0, 0])),
                next: 0,
                budget: 0,
            }),
            total: Mutex::default(),
            splitter: Splitter::new(expressions)?,
            pool: threads(num_threads)?,
            failed: AtomicBool::new(false),
        })
    }

    /// Take these inputs next.
    pub fn add(&self, inputs: impl IntoIterator<Item = Input>) {
        lock(&self.source).reader.add(inputs);
    }

    /// Count the words of about `num_bytes` of the inputs. Returns false when all of them are read.
    ///
    /// # Errors
    /// When text cannot be read or an expression backtracks too long. The training cannot continue after that.
    pub fn run(&self, num_bytes: u64) -> Result<bool> {
        lock(&self.source).budget = num_bytes;
        let results = self.pool.broadcast(|_| {
            let result = self.work();
            if result.is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            result
        });
        let more: Vec<bool> = results.into_iter().collect::<Result<_>>()?;
        Ok(more.into_iter().all(|more| more))
    }

    fn work(&self) -> Result<bool> {
        while !self.failed.load(Ordering::Relaxed) {
            let (number, block) = {
                let mut source = lock(&self.source);
                if source.budget == 0 {
                    return Ok(true);
                }
                let Some(block) = source.reader.next_block(&WordCuts)? else {
                    return Ok(false);
                };
                source.budget = source.budget.saturating_sub(block.text.len() as u64);
                source.next += 1;
                (source.next - 1, block)
            };
            let counts = self.count(&block)?;
            lock(&self.source).reader.recycle(block);
            self.commit(number, counts);
        }
        Ok(false)
    }

    fn count(&self, block: &Block) -> Result<Counts> {
        let (mut counts, mut start) = (Counts::default(), 0);
        for piece in &block.pieces {
            let text = &block.text[start..piece.end];
            start = piece.end;
            if matches!(piece.target, Target::Train) {
                self.splitter.for_each_word(text, &mut |word| counts.add(word, 1))?;
            }
        }
        Ok(counts)
    }

    fn commit(&self, number: u64, counts: Counts) {
        let mut total = lock(&self.total);
        total.waiting.insert(number, counts);
        loop {
            let next = total.next;
            let Some(counts) = total.waiting.remove(&next) else {
                return;
            };
            total.counts.merge(counts);
            total.next += 1;
        }
    }

    /// Learn a tokenizer of at most `vocab_size` tokens from the words that were counted, and return its
    /// tokenizer.json. Its first token is `end_of_text`; `pre_tokenizer` is the section of this name.
    ///
    /// # Errors
    /// When the last text cannot be counted, or `pre_tokenizer` is not one.
    pub fn finish(&self, vocab_size: usize, end_of_text: &str, pre_tokenizer: &str) -> Result<String> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(Error::Value("the training failed earlier and cannot continue".into()));
        }
        while self.run(u64::MAX)? {}
        let last = lock(&self.source).reader.last_block();
        if let Some(block) = last {
            let counts = self.count(&block)?;
            lock(&self.total).counts.merge(counts);
        }
        let counts = std::mem::take(&mut lock(&self.total).counts);
        self.pool
            .install(|| learn::learn(counts, vocab_size, end_of_text, pre_tokenizer))
    }
}
