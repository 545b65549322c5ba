//! The shards of one split as one stream of tokens.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::path::PathBuf;

use rayon::prelude::*;

use crate::contiguous::ContiguousWindow;
use crate::error::{Error, Result};
use crate::shard::Shard;

/// Rows between prefetching a window and reading it.
const ROWS_AHEAD: usize = 16;

/// The shards of a split in order, with the position of each in the stream.
pub struct TokenSplit {
    shards: Vec<Shard>,
    /// Position of the first token of every shard, then the total number of tokens.
    starts: Vec<u64>,
}

impl TokenSplit {
    /// Open all shards of a split, in order.
    ///
    /// # Errors
    /// When a shard cannot be opened or the vocabulary sizes of the shards differ.
    pub fn open(paths: &[PathBuf], mapped: bool) -> Result<Self> {
        let shards = paths
            .iter()
            .map(|path| Shard::open(path, mapped))
            .collect::<Result<Vec<_>>>()?;
        let mut starts = vec![0];
        for (shard, path) in shards.iter().zip(paths) {
            if shard.header().vocab_size != shards[0].header().vocab_size {
                return Err(Error::shard(
                    path,
                    "its vocabulary size differs from that of the first shard",
                ));
            }
            let next = starts[starts.len() - 1] + shard.header().num_tokens;
            starts.push(next);
        }
        Ok(Self { shards, starts })
    }

    /// The shards.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Tokens in all shards.
    pub fn num_tokens(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    /// Documents in all shards.
    pub fn num_documents(&self) -> u64 {
        self.shards.iter().map(|shard| shard.header().num_documents).sum()
    }

    /// Copy the tokens from `start` on into `target`, across shards.
    ///
    /// # Errors
    /// When the range is not within the split, or a read fails.
    pub fn read<T: From<u16> + TryFrom<u32>>(&self, start: u64, target: &mut [T]) -> Result<()> {
        let stop = start
            .checked_add(target.len() as u64)
            .filter(|&stop| stop <= self.num_tokens());
        if stop.is_none() {
            return Err(Error::Value(format!(
                "tokens {start}..+{} are not in a split of {}",
                target.len(),
                self.num_tokens()
            )));
        }
        let mut index = self.starts.partition_point(|&first| first <= start).saturating_sub(1);
        let (mut position, mut rest) = (start, target);
        while !rest.is_empty() {
            let count = rest.len().min((self.starts[index + 1] - position) as usize);
            let (head, tail) = rest.split_at_mut(count);
            self.shards[index].read(position - self.starts[index], head)?;
            position += count as u64;
            rest = tail;
            index += 1;
        }
        Ok(())
    }

    /// Copy windows of `window + 1` tokens, row after row; window `k` starts at token `k * window`. Every element of
    /// `target` is written unless there is an error.
    ///
    /// # Errors
    /// When a window is not within the split, or `target` does not have one row per window.
    pub fn gather(&self, windows: &[u64], window: u64, target: &mut [MaybeUninit<i64>]) -> Result<()> {
        let len = window as usize + 1;
        if windows.len().checked_mul(len) != Some(target.len()) {
            return Err(Error::Value(format!(
                "expected a target of {} rows of W={window} plus one token, got {} tokens",
                windows.len(),
                target.len()
            )));
        }
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the instructions, as was just checked.
            return unsafe { self.gather_avx2(windows, len, target) };
        }
        self.gather_rows(windows, len, target)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn gather_avx2(&self, windows: &[u64], len: usize, target: &mut [MaybeUninit<i64>]) -> Result<()> {
        self.gather_rows(windows, len, target)
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
    fn gather_rows(&self, windows: &[u64], len: usize, target: &mut [MaybeUninit<i64>]) -> Result<()> {
        let window = len as u64 - 1;
        let first = |index: u64| index.saturating_mul(window);
        for &index in windows.iter().take(ROWS_AHEAD) {
            self.prefetch(index, window);
        }
        for (number, (row, &index)) in target.chunks_exact_mut(len).zip(windows).enumerate() {
            if let Some(&ahead) = windows.get(number + ROWS_AHEAD) {
                self.prefetch(ahead, window);
            }
            let at = self.shard_at(first(index));
            let shard = self.shards.get(at);
            match shard.and_then(|shard| shard.mapped(first(index) - self.starts[at], len)) {
                Some(bytes) if bytes.len() == 2 * len => {
                    for (slot, id) in row.iter_mut().zip(bytes.as_chunks::<2>().0) {
                        slot.write(u16::from_le_bytes(*id).into());
                    }
                }
                Some(bytes) => {
                    for (slot, id) in row.iter_mut().zip(bytes.as_chunks::<4>().0) {
                        slot.write(u32::from_le_bytes(*id).into());
                    }
                }
                None => self.read(first(index), zeroed(row))?,
            }
        }
        Ok(())
    }

    /// The index of the shard that holds the token at this position, or of the last shard.
    #[inline]
    fn shard_at(&self, position: u64) -> usize {
        if self.shards.len() == 1 {
            return 0;
        }
        let after = self.starts.partition_point(|&first| first <= position);
        after.saturating_sub(1).min(self.shards.len().saturating_sub(1))
    }

    /// Prefetch a window into the cache.
    #[inline]
    pub fn prefetch(&self, index: u64, window: u64) {
        let start = index.saturating_mul(window);
        let at = self.shard_at(start);
        if let Some(shard) = self.shards.get(at) {
            shard.prefetch(start - self.starts[at], window as usize + 1);
        }
    }

    /// Positions after the last token of each document, in the stream.
    ///
    /// # Errors
    /// When the index of a shard is corrupt.
    pub fn document_ends(&self) -> Result<Vec<u64>> {
        let mut ends = Vec::new();
        for (shard, start) in self.shards.iter().zip(&self.starts) {
            ends.extend(shard.document_ends()?.into_iter().map(|end| start + end));
        }
        Ok(ends)
    }

    /// The document ends after more than `tokens.start` and at most `tokens.end` tokens, like `document_ends`.
    ///
    /// # Errors
    /// When a read fails or the index of a shard is corrupt.
    pub fn document_ends_within(&self, tokens: &Range<u64>) -> Result<Vec<u64>> {
        let mut ends = Vec::new();
        for (shard, &start) in self.shards.iter().zip(&self.starts) {
            if start < tokens.end {
                let here = tokens.start.saturating_sub(start)..tokens.end - start;
                ends.extend(shard.document_ends_within(&here)?.into_iter().map(|end| start + end));
            }
        }
        Ok(ends)
    }

    /// Whether a document ends after more than `after` and at most `until` tokens of the stream.
    ///
    /// # Errors
    /// When a read fails.
    pub fn has_end(&self, after: u64, until: u64) -> Result<bool> {
        let first = self.starts.partition_point(|&start| start <= after).saturating_sub(1);
        for (shard, &start) in self.shards.iter().zip(&self.starts).skip(first) {
            if start >= until {
                break;
            }
            if shard.has_end(after.saturating_sub(start), until - start)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a contiguous row must start `row.window` from the initial state. It must if the row jumped there, or if
    /// a document ended among the tokens scored in the window before: then its end-of-text token is at the latest the
    /// first token of this window.
    ///
    /// # Errors
    /// When a read fails.
    pub fn resets(&self, row: ContiguousWindow, window: u64) -> Result<bool> {
        let start = row.window * window;
        Ok(row.jumped || self.has_end(start - window + 1, start + 1)?)
    }

    /// Check every byte of every shard against its SHA-256.
    ///
    /// # Errors
    /// When a shard is damaged. The error names the first fault.
    pub fn verify(&self, digests: &[String]) -> Result<()> {
        self.shards
            .par_iter()
            .zip(digests)
            .try_for_each(|(shard, digest)| shard.verify(digest))
    }
}

/// Fill a row with zeros.
fn zeroed(row: &mut [MaybeUninit<i64>]) -> &mut [i64] {
    for slot in row.iter_mut() {
        slot.write(0);
    }
    // SAFETY: every element has just been written.
    unsafe { &mut *(std::ptr::from_mut(row) as *mut [i64]) }
}
