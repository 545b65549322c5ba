//! Pack the ids of documents into the shards of one split: one stream with an end-of-text token after each document.
//!
//! Nothing is padded, truncated or dropped. A full shard is synced, hashed and renamed on its own thread while the next
//! shard fills.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::bpe::Id;
use crate::error::{Error, Result};
use crate::shard::{MAX_U16_VOCAB, Shard, ShardInfo, ShardWriter};
use crate::split::TokenSplit;

/// Ids that are copied at a time from shard to shard.
const COPIED_TOKENS: usize = 1 << 18;

/// Writes the shards of one split.
pub struct Packer {
    directory: PathBuf,
    split: String,
    vocab_size: u32,
    eos_id: u32,
    shard_tokens: u64,
    current: Option<ShardWriter>,
    closing: Option<JoinHandle<Result<ShardInfo>>>,
    finished: Vec<ShardInfo>,
    /// Tokens at the start of the next document that are already in the kept shards.
    in_kept: u64,
}

impl Packer {
    /// Write shards `SPLIT-00000.tok`, … of at most `shard_tokens` tokens to `directory`.
    ///
    /// # Errors
    /// When the end-of-text id is not below the vocabulary size or `shard_tokens` is 0.
    pub fn new(directory: &Path, split: &str, vocab_size: u32, eos_id: u32, shard_tokens: u64) -> Result<Self> {
        if eos_id >= vocab_size {
            return Err(Error::Value(format!(
                "eos_id {eos_id} is not below the vocabulary size {vocab_size}"
            )));
        }
        if shard_tokens == 0 {
            return Err(Error::Value("shard_tokens must be at least 1".into()));
        }
        Ok(Self {
            directory: directory.to_owned(),
            split: split.to_owned(),
            vocab_size,
            eos_id,
            shard_tokens,
            current: None,
            closing: None,
            finished: Vec::new(),
            in_kept: 0,
        })
    }

    /// Resume after the shards of an earlier call, given in order as (name, SHA-256). Shards are kept up to the first
    /// that is missing or damaged. Returns the number of documents that end in the kept shards.
    pub fn keep(&mut self, shards: &[(String, String)]) -> u64 {
        let mut num_documents = 0;
        for (name, sha256) in shards {
            let opened = Shard::open(&self.directory.join(name), true);
            let Ok((header, ends)) = opened.and_then(|shard| {
                shard.verify(sha256)?;
                Ok((*shard.header(), shard.document_ends()?))
            }) else {
                break;
            };
            let expected = format!("{}-{:05}.tok", self.split, self.finished.len());
            if *name != expected || header.num_tokens != self.shard_tokens || header.vocab_size != self.vocab_size {
                break;
            }
            self.in_kept = match ends.last() {
                Some(end) => header.num_tokens - end,
                None => self.in_kept + header.num_tokens,
            };
            num_documents += header.num_documents;
            self.finished.push(ShardInfo {
                name: name.clone(),
                header,
                sha256: sha256.clone(),
            });
        }
        num_documents
    }

    /// The shards that are finished on disk so far.
    pub fn finished(&self) -> &[ShardInfo] {
        &self.finished
    }

    /// Append one document and its end-of-text token.
    ///
    /// # Errors
    /// When an id is outside the vocabulary or a write fails.
    pub fn add_document(&mut self, ids: &[u32]) -> Result<()> {
        self.add(ids, false)?;
        self.add(&[self.eos_id], true)
    }

    /// Append ids of the open document. If `ends`, the document ends there and the last id is the end-of-text token.
    ///
    /// # Errors
    /// When an id is outside the vocabulary or a write fails.
    pub fn add<T: Id>(&mut self, ids: &[T], ends: bool) -> Result<()> {
        let known = self.in_kept.min(ids.len() as u64);
        self.in_kept -= known;
        let mut rest = &ids[known as usize..];
        while !rest.is_empty() {
            let shard_tokens = self.shard_tokens;
            let shard = self.open_shard()?;
            let room = (shard_tokens - shard.num_tokens()).min(rest.len() as u64) as usize;
            shard.push(&rest[..room])?;
            rest = &rest[room..];
            if rest.is_empty() && ends {
                shard.end_document();
            }
        }
        Ok(())
    }

    /// Close the last shard and return the shards of the split in order.
    ///
    /// # Errors
    /// When a write fails.
    pub fn finish(&mut self) -> Result<Vec<ShardInfo>> {
        self.close_shard()?;
        self.join()?;
        Ok(std::mem::take(&mut self.finished))
    }

    /// The shard that has room for a token: a new shard if the last one is full.
    fn open_shard(&mut self) -> Result<&mut ShardWriter> {
        let full = |shard: &ShardWriter| shard.num_tokens() >= self.shard_tokens;
        if self.current.as_ref().is_some_and(full) {
            self.close_shard()?;
        }
        let shard = if let Some(shard) = self.current.take() {
            shard
        } else {
            let index = self.finished.len() + usize::from(self.closing.is_some());
            let name = format!("{}-{index:05}.tok", self.split);
            ShardWriter::create(&self.directory.join(name), self.vocab_size)?
        };
        Ok(self.current.insert(shard))
    }

    fn close_shard(&mut self) -> Result<()> {
        if let Some(shard) = self.current.take() {
            self.join()?;
            self.closing = Some(std::thread::spawn(move || shard.finish()));
        }
        Ok(())
    }

    /// Wait for the shard that is being closed.
    fn join(&mut self) -> Result<()> {
        if let Some(closing) = self.closing.take() {
            let lost = |_| Error::Value("the thread that closed a shard panicked".into());
            self.finished.push(closing.join().map_err(lost)??);
        }
        Ok(())
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        // No file may appear in the directory after the packer is dropped.
        let _ = self.join();
    }
}

/// Write a range of the tokens of a split, with the ends of their documents, as one shard.
///
/// # Errors
/// When the range is empty or not within the split, or a read or write fails.
pub fn write_range(split: &TokenSplit, tokens: Range<u64>, path: &Path) -> Result<ShardInfo> {
    let Some(shard) = split.shards().first().filter(|_| !tokens.is_empty()) else {
        return Err(Error::Value(format!("tokens {tokens:?} hold nothing to write")));
    };
    let vocab_size = shard.header().vocab_size;
    let mut writer = ShardWriter::create(path, vocab_size)?;
    if vocab_size <= MAX_U16_VOCAB {
        copy::<u16>(split, &tokens, &mut writer)?;
    } else {
        copy::<u32>(split, &tokens, &mut writer)?;
    }
    let ends = split.document_ends_within(&tokens)?;
    writer.end_documents(&ends.iter().map(|end| end - tokens.start).collect::<Vec<_>>());
    writer.finish()
}

fn copy<T: Id + From<u16> + TryFrom<u32>>(
    split: &TokenSplit,
    tokens: &Range<u64>,
    writer: &mut ShardWriter,
) -> Result<()> {
    let mut block = vec![T::of(0); COPIED_TOKENS.min((tokens.end - tokens.start) as usize)];
    let mut at = tokens.start;
    while at < tokens.end {
        let count = block.len().min((tokens.end - at) as usize);
        split.read(at, &mut block[..count])?;
        writer.push(&block[..count])?;
        at += count as u64;
    }
    Ok(())
}
