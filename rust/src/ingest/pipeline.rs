//! The loop of every thread of a preparation: take the next block, encode it, hand it to the sink.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use rayon::ThreadPool;

use super::Settings;
use super::blocks::{BLOCK_BYTES, Builder};
use super::reader::{Input, Reader};
use super::sink::{Sink, Tokens};
use crate::bpe::{Id, Scratch};
use crate::encode::{Encoder, lock};
use crate::error::{Error, Result};
use crate::pack::Packer;
use crate::shard::ShardInfo;

/// The reader, shared by all threads, with the number of the next block.
struct Source<T> {
    reader: Reader,
    next: u64,
    budget: u64,
    spare: Vec<Tokens<T>>,
}

/// Turns inputs into shards, with ids of one width.
pub struct Pipeline<T: Id> {
    source: Mutex<Source<T>>,
    sink: Mutex<Sink<T>>,
    scratches: Mutex<Vec<Scratch<T>>>,
    eos_id: T,
    failed: AtomicBool,
}

impl<T: Id> Pipeline<T> {
    /// Open both splits, after the shards that are kept from an earlier call.
    ///
    /// # Errors
    /// When the end-of-text id is outside the vocabulary or `shard_tokens` is 0.
    pub fn new(settings: &Settings<'_>, encoder: &Encoder) -> Result<Self> {
        let packer = |split| {
            Packer::new(
                settings.directory,
                split,
                encoder.vocab_size(),
                settings.eos_id,
                settings.shard_tokens,
            )
        };
        let mut packers = [packer("train")?, packer("validation")?];
        let kept = [0, 1].map(|split| packers[split].keep(&settings.kept[split]));
        // kept documents are counted and not encoded
        let kept = if settings.count_only { [u64::MAX; 2] } else { kept };
        let mut builder = Builder::new(BLOCK_BYTES, settings.fraction, kept);
        builder.begin_at(settings.first_document);
        Ok(Self {
            source: Mutex::new(Source {
                reader: Reader::new(settings.rule, builder),
                next: 0,
                budget: 0,
                spare: Vec::new(),
            }),
            sink: Mutex::new(Sink::new(packers)),
            scratches: Mutex::default(),
            eos_id: T::of(settings.eos_id),
            failed: AtomicBool::new(false),
        })
    }

    /// Take these inputs next.
    pub fn add(&self, inputs: impl IntoIterator<Item = Input>) {
        lock(&self.source).reader.add(inputs);
    }

    /// The sink, with what is written so far.
    pub fn sink(&self) -> MutexGuard<'_, Sink<T>> {
        lock(&self.sink)
    }

    /// Process about `num_bytes` of the inputs. Returns false when all of them are read.
    ///
    /// # Errors
    /// When text cannot be read or encoded, or a shard cannot be written. The preparation cannot continue after that.
    pub fn run(&self, encoder: &Encoder, pool: &ThreadPool, num_bytes: u64) -> Result<bool> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(Error::Value(
                "the preparation failed earlier and cannot continue".into(),
            ));
        }
        lock(&self.source).budget = num_bytes;
        let results = pool.broadcast(|_| {
            let taken = lock(&self.scratches).pop();
            let mut scratch = taken.unwrap_or_else(|| encoder.scratch());
            let result = self.work(encoder, &mut scratch);
            lock(&self.scratches).push(scratch);
            if result.is_err() {
                self.failed.store(true, Ordering::Relaxed);
            }
            result
        });
        let more: Vec<bool> = results.into_iter().collect::<Result<_>>()?;
        Ok(more.into_iter().all(|more| more))
    }

    /// Process block after block until the budget is spent (returns true) or all inputs are read (false).
    fn work(&self, encoder: &Encoder, scratch: &mut Scratch<T>) -> Result<bool> {
        while !self.failed.load(Ordering::Relaxed) {
            let (number, mut tokens) = {
                let mut source = lock(&self.source);
                if source.budget == 0 {
                    return Ok(true);
                }
                let Some(block) = source.reader.next_block(encoder)? else {
                    return Ok(false);
                };
                source.budget = source.budget.saturating_sub(block.text.len() as u64);
                let number = source.next;
                source.next += 1;
                let mut tokens = source.spare.pop().unwrap_or_default();
                let used = std::mem::replace(&mut tokens.block, block);
                source.reader.recycle(used);
                (number, tokens)
            };
            tokens.fill(encoder, scratch, self.eos_id)?;
            let done = self.sink().commit(number, tokens)?;
            lock(&self.source).spare.extend(done);
        }
        Ok(false)
    }

    /// Encode the rest when all inputs are read, and close the last shards. Returns the shards of both splits in order.
    ///
    /// # Errors
    /// As for `run`.
    pub fn finish(&self, encoder: &Encoder) -> Result<[Vec<ShardInfo>; 2]> {
        let last = lock(&self.source).reader.last_block();
        if let Some(block) = last {
            let mut tokens = Tokens {
                block,
                ..Tokens::default()
            };
            tokens.fill(encoder, &mut encoder.scratch(), self.eos_id)?;
            self.sink().write(&tokens)?;
        }
        self.sink().finish()
    }
}
