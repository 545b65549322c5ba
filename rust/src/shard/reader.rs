//! Read a shard, mapped into memory or by position (`pread`).

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::header::{HEADER_LEN, Header};
use super::{ENTRY_LEN, open_regular, sha256_of};
use crate::error::{Error, Result};

const LINE_BYTES: usize = 64;
/// The processor itself prefetches the lines after these.
const MAX_LINES_AHEAD: usize = 32;

enum Bytes {
    Mapped(Mmap),
    Positional(File),
}

/// A shard that is open for reading. Its header was checked.
pub struct Shard {
    path: PathBuf,
    header: Header,
    bytes: Bytes,
}

impl Shard {
    /// Open a shard. It is mapped into memory, or read by position if another program may truncate the file.
    ///
    /// # Errors
    /// When the file cannot be opened or is not a complete shard.
    pub fn open(path: &Path, mapped: bool) -> Result<Self> {
        let file = open_regular(path)?;
        let metadata = file.metadata().map_err(Error::io(path))?;
        let mut head = [0; HEADER_LEN];
        let available = HEADER_LEN.min(usize::try_from(metadata.len()).unwrap_or(HEADER_LEN));
        file.read_exact_at(&mut head[..available], 0).map_err(Error::io(path))?;
        let header = Header::decode(&head[..available], metadata.len()).map_err(|reason| Error::shard(path, reason))?;
        let bytes = if mapped && cfg!(not(miri)) {
            // Miri cannot map files.
            // SAFETY: shards are written once and only replaced by rename, so the mapped inode does not change.
            Bytes::Mapped(unsafe { Mmap::map(&file) }.map_err(Error::io(path))?)
        } else {
            Bytes::Positional(file)
        };
        Ok(Self {
            path: path.to_owned(),
            header,
            bytes,
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Copy the ids `start .. start + target.len()` of this shard.
    ///
    /// # Errors
    /// When the range is not within the shard or the read fails.
    pub fn read<T: From<u16> + TryFrom<u32>>(&self, start: u64, target: &mut [T]) -> Result<()> {
        let width = u64::from(self.header.bytes_per_id);
        let inside = start
            .checked_add(target.len() as u64)
            .is_some_and(|stop| stop <= self.header.num_tokens);
        if !inside {
            return Err(Error::Value(format!(
                "tokens {start}..+{} are not in a shard of {}",
                target.len(),
                self.header.num_tokens
            )));
        }
        let from = HEADER_LEN as u64 + start * width;
        self.with_bytes(from, target.len() * width as usize, |bytes| {
            if width == 2 {
                for (slot, pair) in target.iter_mut().zip(bytes.chunks_exact(2)) {
                    *slot = T::from(u16::from_le_bytes([pair[0], pair[1]]));
                }
                return Ok(());
            }
            for (slot, quad) in target.iter_mut().zip(bytes.chunks_exact(4)) {
                let id = u32::from_le_bytes([quad[0], quad[1], quad[2], quad[3]]);
                *slot = T::try_from(id)
                    .map_err(|_| Error::shard(&self.path, format!("id {id} is too large for the target")))?;
            }
            Ok(())
        })?
    }

    /// The bytes of ids `start .. start + len`, if they are mapped and in this shard.
    #[inline]
    pub fn mapped(&self, start: u64, len: usize) -> Option<&[u8]> {
        let Bytes::Mapped(map) = &self.bytes else {
            return None;
        };
        let stop = start.checked_add(len as u64)?;
        let place = |token: u64| HEADER_LEN + token as usize * usize::from(self.header.bytes_per_id);
        (stop <= self.header.num_tokens).then(|| map.get(place(start)..place(stop)))?
    }

    /// Prefetch ids into the cache, if they are mapped.
    #[inline]
    pub fn prefetch(&self, start: u64, len: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Bytes::Mapped(map) = &self.bytes {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let width = usize::from(self.header.bytes_per_id);
            let first = map
                .as_ptr()
                .wrapping_add(HEADER_LEN)
                .wrapping_add((start as usize).wrapping_mul(width));
            for line in 0..(len * width / LINE_BYTES + 1).min(MAX_LINES_AHEAD) {
                // SAFETY: a prefetch does not access memory, so any address is allowed.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(first.wrapping_add(line * LINE_BYTES).cast()) };
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (start, len);
    }

    /// Positions after the last token of each document that ends here, relative to the shard.
    ///
    /// # Errors
    /// When the read fails or the positions do not increase within the shard.
    pub fn document_ends(&self) -> Result<Vec<u64>> {
        self.entries(0..self.header.num_documents)
    }

    /// The document ends after more than `tokens.start` and at most `tokens.end` tokens, like `document_ends`.
    ///
    /// # Errors
    /// When the read fails or the positions do not increase within the shard.
    pub fn document_ends_within(&self, tokens: &Range<u64>) -> Result<Vec<u64>> {
        self.entries(self.num_ends_until(tokens.start)?..self.num_ends_until(tokens.end)?)
    }

    /// Read some entries of the index.
    fn entries(&self, numbers: Range<u64>) -> Result<Vec<u64>> {
        let len = (numbers.end.saturating_sub(numbers.start) * ENTRY_LEN) as usize;
        let ends: Vec<u64> = self.with_bytes(self.entry_offset(numbers.start), len, |bytes| {
            let entries = bytes.as_chunks::<{ ENTRY_LEN as usize }>().0.iter();
            entries.map(|entry| u64::from_le_bytes(*entry)).collect()
        })?;
        let rising = ends.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = ends
            .last()
            .is_none_or(|&end| end <= self.header.num_tokens && ends[0] > 0);
        if rising && inside {
            Ok(ends)
        } else {
            Err(Error::shard(&self.path, "the index of documents is corrupt"))
        }
    }

    /// Whether a document ends after more than `after` and at most `until` tokens of this shard.
    ///
    /// # Errors
    /// When the read fails.
    pub fn has_end(&self, after: u64, until: u64) -> Result<bool> {
        let next = self.num_ends_until(after)?;
        Ok(next < self.header.num_documents && self.document_end(next)? <= until)
    }

    /// The number of documents that end after at most `position` tokens.
    fn num_ends_until(&self, position: u64) -> Result<u64> {
        let (mut low, mut high) = (0, self.header.num_documents);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.document_end(middle)? > position {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }

    fn document_end(&self, index: u64) -> Result<u64> {
        self.with_bytes(self.entry_offset(index), ENTRY_LEN as usize, |bytes| {
            let mut raw = [0; ENTRY_LEN as usize];
            raw.copy_from_slice(bytes);
            u64::from_le_bytes(raw)
        })
    }

    /// Where an entry of the index is in the file.
    fn entry_offset(&self, index: u64) -> u64 {
        HEADER_LEN as u64 + self.header.num_tokens * u64::from(self.header.bytes_per_id) + index * ENTRY_LEN
    }

    /// Check everything: the checksum of the file, every id, and the index of documents.
    ///
    /// # Errors
    /// When the shard is damaged. The error names the first fault.
    pub fn verify(&self, sha256: &str) -> Result<()> {
        let actual = sha256_of(&self.path)?;
        if actual != sha256 {
            return Err(Error::shard(
                &self.path,
                format!("its SHA-256 is {actual}, but the manifest says {sha256}"),
            ));
        }
        let mut max = 0;
        let mut block = vec![0_u32; 1 << 16];
        let mut start = 0;
        while start < self.header.num_tokens {
            let count = block.len().min((self.header.num_tokens - start) as usize);
            self.read(start, &mut block[..count])?;
            max = max.max(block[..count].iter().copied().max().unwrap_or(0));
            start += count as u64;
        }
        if max != self.header.max_token {
            return Err(Error::shard(
                &self.path,
                format!("its largest id is {max}, but the header says {}", self.header.max_token),
            ));
        }
        self.document_ends().map(|_| ())
    }

    fn with_bytes<R>(&self, from: u64, len: usize, use_bytes: impl FnOnce(&[u8]) -> R) -> Result<R> {
        match &self.bytes {
            Bytes::Mapped(map) => {
                let slice = usize::try_from(from)
                    .ok()
                    .and_then(|from| map.get(from..from.checked_add(len)?));
                slice
                    .map(use_bytes)
                    .ok_or_else(|| Error::shard(&self.path, "the file is shorter than its header says"))
            }
            Bytes::Positional(file) => {
                let mut buffer = vec![0; len];
                file.read_exact_at(&mut buffer, from).map_err(Error::io(&self.path))?;
                Ok(use_bytes(&buffer))
            }
        }
    }
}
