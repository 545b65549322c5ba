//! Sources to shards on all threads: read, cut, encode, write.
//!
//! Every thread does the same: take the next block from the reader, encode it, hand it to the sink, which writes blocks in
//! their order. So the bytes do not depend on the number of threads, no thread waits for a slower kind of work, and no more
//! than a block per thread and what waits for its turn is in memory. `run` returns after a number of bytes, for progress and
//! Ctrl-C.

mod blocks;
mod reader;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rayon::ThreadPool;

use crate::bpe::{Id, Scratch, Simd};
use crate::encode::{Encoder, lock, threads};
use crate::error::{Error, Result};
use crate::pack::Packer;
use crate::shard::{MAX_U16_VOCAB, ShardInfo};
use blocks::{Block, Builder, Target};
use reader::Reader;
pub use reader::Rule;
use words::count_words;

/// What a split holds so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Documents, those of kept shards included.
    pub num_documents: u64,
    /// Ids, those of kept shards left out.
    pub num_tokens: u64,
    /// UTF-8 bytes of the text.
    pub num_bytes: u64,
    /// Words of the text.
    pub num_words: u64,
}

/// Shards of an earlier call as (name, SHA-256), of the training and of the validation split.
pub type Kept = [Vec<(String, String)>; 2];

/// What a preparation is made of.
pub struct Settings<'a> {
    /// Where the shards go.
    pub directory: &'a Path,
    /// Ends every document.
    pub eos_id: u32,
    /// Ids of a full shard.
    pub shard_tokens: u64,
    /// What a document of a text file is.
    pub rule: Rule,
    /// Share of documents that is held out.
    pub fraction: f64,
    /// What an earlier call has left.
    pub kept: Kept,
    /// 0 means all cores.
    pub num_threads: usize,
}

/// A block with its ids.
struct Tokens<T> {
    block: Block,
    ids: Vec<T>,
    /// Position after each piece in `ids`.
    ends: Vec<usize>,
    /// Words that begin in each piece.
    words: Vec<u64>,
}

struct Source<T> {
    reader: Reader,
    next: u64,
    budget: u64,
    spare: Vec<Tokens<T>>,
}

struct Sink<T> {
    packers: [Packer; 2],
    counts: [Counts; 2],
    next: u64,
    waiting: BTreeMap<u64, Tokens<T>>,
}

struct Lane<T: Id> {
    source: Mutex<Source<T>>,
    sink: Mutex<Sink<T>>,
    scratches: Mutex<Vec<Scratch<T>>>,
    eos_id: T,
    simd: Simd,
    failed: AtomicBool,
}

/// One preparation, with ids of two bytes or of four.
pub struct Ingest {
    width: Width,
    encoder: Arc<Encoder>,
    pool: ThreadPool,
}

enum Width {
    Two(Lane<u16>),
    Four(Lane<u32>),
}

macro_rules! each {
    ($self:expr, $lane:ident => $result:expr) => {
        match &$self.width {
            Width::Two($lane) => $result,
            Width::Four($lane) => $result,
        }
    };
}

impl Ingest {
    /// Open both splits, after what is kept of an earlier call.
    ///
    /// # Errors
    /// When the end-of-text id is outside the vocabulary or a shard may hold nothing.
    pub fn new(settings: &Settings<'_>, encoder: Arc<Encoder>) -> Result<Self> {
        Ok(Self {
            width: if encoder.vocab_size() <= MAX_U16_VOCAB {
                Width::Two(Lane::new(settings, &encoder)?)
            } else {
                Width::Four(Lane::new(settings, &encoder)?)
            },
            encoder,
            pool: threads(settings.num_threads)?,
        })
    }

    /// Read these text files next.
    pub fn add_paths(&self, paths: Vec<PathBuf>) {
        each!(self, lane => {
            let mut source = lock(&lane.source);
            for path in paths {
                source.reader.add_path(path);
            }
        });
    }

    /// Take these documents next.
    pub fn add_documents(&self, documents: Vec<String>) {
        each!(self, lane => lock(&lane.source).reader.add_documents(documents));
    }

    /// Everything added from now on is held out.
    pub fn hold_out_all(&self) {
        each!(self, lane => lock(&lane.source).reader.hold_out_all());
    }

    /// Work on about `num_bytes` of what was added; false when it is used up.
    ///
    /// # Errors
    /// When text cannot be read or tokens, or a shard not be written. Nothing goes on after that.
    pub fn run(&self, num_bytes: u64) -> Result<bool> {
        each!(self, lane => lane.run(&self.encoder, &self.pool, num_bytes))
    }

    /// Counts of both splits, of the blocks that are written.
    pub fn counts(&self) -> [Counts; 2] {
        each!(self, lane => lock(&lane.sink).counts)
    }

    /// The shards of both splits that are whole on disk so far.
    pub fn finished(&self) -> [Vec<ShardInfo>; 2] {
        each!(self, lane => {
            let sink = lock(&lane.sink);
            [sink.packers[0].finished().to_vec(), sink.packers[1].finished().to_vec()]
        })
    }

    /// Encode what is left and close the last shards; the shards of both splits in order.
    ///
    /// # Errors
    /// As `run`.
    pub fn finish(&self) -> Result<[Vec<ShardInfo>; 2]> {
        while self.run(u64::MAX)? {}
        each!(self, lane => {
            if let Some(block) = lock(&lane.source).reader.last_block() {
                let mut tokens = Tokens { block, ids: Vec::new(), ends: Vec::new(), words: Vec::new() };
                lane.encode(&self.encoder, &mut self.encoder.scratch(), &mut tokens)?;
                lock(&lane.sink).write(&tokens)?;
            }
            let mut sink = lock(&lane.sink);
            Ok([sink.packers[0].finish()?, sink.packers[1].finish()?])
        })
    }
}

impl<T: Id> Lane<T> {
    fn new(settings: &Settings<'_>, encoder: &Encoder) -> Result<Self> {
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
        Ok(Self {
            source: Mutex::new(Source {
                reader: Reader::new(settings.rule, Builder::new(settings.fraction, kept)),
                next: 0,
                budget: 0,
                spare: Vec::new(),
            }),
            sink: Mutex::new(Sink {
                packers,
                counts: [Counts::default(); 2],
                next: 0,
                waiting: BTreeMap::new(),
            }),
            scratches: Mutex::default(),
            eos_id: T::of(settings.eos_id),
            simd: encoder.simd(),
            failed: AtomicBool::new(false),
        })
    }

    fn run(&self, encoder: &Encoder, pool: &ThreadPool, num_bytes: u64) -> Result<bool> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(Error::Value("the preparation has failed already".into()));
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

    /// Block after block until the budget is spent (true) or the inputs are (false).
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
                let mut tokens = source.spare.pop().unwrap_or_else(|| Tokens {
                    block: Block::default(),
                    ids: Vec::new(),
                    ends: Vec::new(),
                    words: Vec::new(),
                });
                let used = std::mem::replace(&mut tokens.block, block);
                source.reader.recycle(used);
                (number, tokens)
            };
            self.encode(encoder, scratch, &mut tokens)?;
            let done = lock(&self.sink).commit(number, tokens)?;
            lock(&self.source).spare.extend(done);
        }
        Ok(false)
    }

    fn encode(&self, encoder: &Encoder, scratch: &mut Scratch<T>, tokens: &mut Tokens<T>) -> Result<()> {
        tokens.ids.clear();
        tokens.ends.clear();
        tokens.words.clear();
        let mut start = 0;
        for piece in &tokens.block.pieces {
            let text = &tokens.block.text[start..piece.end];
            start = piece.end;
            tokens.words.push(count_words(text, piece.continues, self.simd));
            if !piece.kept {
                encoder.encode_into(text, scratch, &mut tokens.ids)?;
                if piece.ends {
                    tokens.ids.push(self.eos_id);
                }
            }
            tokens.ends.push(tokens.ids.len());
        }
        Ok(())
    }
}

impl<T: Id> Sink<T> {
    /// Write the block when its turn has come, and those that waited for it; they are given back.
    fn commit(&mut self, number: u64, tokens: Tokens<T>) -> Result<Vec<Tokens<T>>> {
        self.waiting.insert(number, tokens);
        let mut done = Vec::new();
        while let Some(tokens) = self.waiting.remove(&self.next) {
            self.write(&tokens)?;
            self.next += 1;
            done.push(tokens);
        }
        Ok(done)
    }

    fn write(&mut self, tokens: &Tokens<T>) -> Result<()> {
        let (mut text_start, mut start) = (0, 0);
        for ((piece, &end), &words) in tokens.block.pieces.iter().zip(&tokens.ends).zip(&tokens.words) {
            let split = match piece.target {
                Target::Train => 0,
                Target::Validation => 1,
            };
            let counts = &mut self.counts[split];
            counts.num_documents += u64::from(piece.ends);
            counts.num_bytes += (piece.end - text_start) as u64;
            counts.num_words += words;
            counts.num_tokens += (end - start) as u64;
            if !piece.kept {
                self.packers[split].add(&tokens.ids[start..end], piece.ends)?;
            }
            (text_start, start) = (piece.end, end);
        }
        Ok(())
    }
}
