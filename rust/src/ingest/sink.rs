//! Write encoded blocks to the shards in the order of the blocks, whichever thread finishes first.

use std::collections::BTreeMap;

use super::blocks::{Block, Target};
use super::words::count_words;
use crate::bpe::{Id, Scratch};
use crate::encode::Encoder;
use crate::error::Result;
use crate::pack::Packer;
use crate::shard::ShardInfo;

/// The number of documents, ids, bytes and words in a split so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Documents, including those of kept shards.
    pub num_documents: u64,
    /// Ids, excluding those of kept shards.
    pub num_tokens: u64,
    /// UTF-8 bytes of the text.
    pub num_bytes: u64,
    /// Words of the text.
    pub num_words: u64,
}

/// A block with its ids. The ids and counts are filled in by `fill`.
#[derive(Default)]
pub struct Tokens<T> {
    pub block: Block,
    pub ids: Vec<T>,
    /// End of each piece in `ids`.
    pub ends: Vec<usize>,
    /// Words that begin in each piece.
    pub words: Vec<u64>,
}

impl<T: Id> Tokens<T> {
    /// Encode the block and count its words. `eos_id` ends every document.
    ///
    /// # Errors
    /// When the tokenizer rejects a text.
    pub fn fill(&mut self, encoder: &Encoder, scratch: &mut Scratch<T>, eos_id: T) -> Result<()> {
        self.ids.clear();
        self.ends.clear();
        self.words.clear();
        let mut start = 0;
        for piece in &self.block.pieces {
            let text = &self.block.text[start..piece.end];
            start = piece.end;
            self.words.push(count_words(text, piece.continues, encoder.simd()));
            if !piece.kept {
                encoder.encode_into(text, !piece.continues, scratch, &mut self.ids)?;
                if piece.ends {
                    self.ids.push(eos_id);
                }
            }
            self.ends.push(self.ids.len());
        }
        Ok(())
    }
}

/// Writes both splits.
pub struct Sink<T> {
    packers: [Packer; 2],
    counts: [Counts; 2],
    next: u64,
    waiting: BTreeMap<u64, Tokens<T>>,
}

impl<T: Id> Sink<T> {
    /// Make a sink that writes to the packers of the train and the validation split.
    pub fn new(packers: [Packer; 2]) -> Self {
        Self {
            packers,
            counts: [Counts::default(); 2],
            next: 0,
            waiting: BTreeMap::new(),
        }
    }

    /// Counts of both splits in the blocks written so far.
    pub fn counts(&self) -> [Counts; 2] {
        self.counts
    }

    /// The shards of both splits that are finished on disk so far.
    pub fn finished(&self) -> [Vec<ShardInfo>; 2] {
        [self.packers[0].finished().to_vec(), self.packers[1].finished().to_vec()]
    }

    /// Close the last shards. Returns the shards of both splits in order.
    ///
    /// # Errors
    /// When a shard cannot be written.
    pub fn finish(&mut self) -> Result<[Vec<ShardInfo>; 2]> {
        Ok([self.packers[0].finish()?, self.packers[1].finish()?])
    }

    /// Write the block if it is its turn, and the blocks that waited for it. Returns the written blocks for reuse.
    ///
    /// # Errors
    /// When a shard cannot be written.
    pub fn commit(&mut self, number: u64, tokens: Tokens<T>) -> Result<Vec<Tokens<T>>> {
        self.waiting.insert(number, tokens);
        let mut done = Vec::new();
        while let Some(tokens) = self.waiting.remove(&self.next) {
            self.write(&tokens)?;
            self.next += 1;
            done.push(tokens);
        }
        Ok(done)
    }

    /// Write a block. The caller keeps the order.
    ///
    /// # Errors
    /// When a shard cannot be written.
    pub fn write(&mut self, tokens: &Tokens<T>) -> Result<()> {
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
