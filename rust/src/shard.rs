//! Token shards: a 64-byte header, the ids, the index of document ends. Little-endian, written once, replaced by rename.
//!
//! | bytes | field | type |
//! |---|---|---|
//! | 0..8 | magic `TTTSHARD` | |
//! | 8..10 | version | u16 |
//! | 10 | bytes per id, 2 or 4 | u8 |
//! | 11 | flags, 0 | u8 |
//! | 12..16 | vocabulary size | u32 |
//! | 16..24 | number of tokens | u64 |
//! | 24..32 | number of documents that end here | u64 |
//! | 32..40 | offset of the index | u64 |
//! | 40..44 | largest id | u32 |
//! | 44..48 | CRC-32C of the header with this field zero | u32 |
//! | 48..64 | zero | |
//!
//! The index holds, per document that ends in this shard, the position after its last token, relative to the shard.
//! The file is exactly `64 + tokens + index` bytes long.

use std::fmt::Write as _;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use sha2::{Digest, Sha256};

use crate::bpe::Id;
use crate::error::{Error, Result};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 64;
const MAGIC: &[u8; 8] = b"TTTSHARD";
const VERSION: u16 = 1;
const ENTRY_LEN: u64 = 8;

/// Largest vocabulary whose ids fit two bytes.
pub const MAX_U16_VOCAB: u32 = 1 << 16;

/// What a shard says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 2 or 4.
    pub bytes_per_id: u8,
    /// Every id is below it.
    pub vocab_size: u32,
    /// Ids in this shard.
    pub num_tokens: u64,
    /// Documents whose last token is in this shard.
    pub num_documents: u64,
    /// Largest id in this shard; 0 when it is empty.
    pub max_token: u32,
}

impl Header {
    /// The header of a shard of a vocabulary of this size, with nothing in it.
    pub fn empty(vocab_size: u32) -> Self {
        Self {
            bytes_per_id: if vocab_size <= MAX_U16_VOCAB { 2 } else { 4 },
            vocab_size,
            num_tokens: 0,
            num_documents: 0,
            max_token: 0,
        }
    }

    fn index_offset(&self) -> Option<u64> {
        self.num_tokens
            .checked_mul(self.bytes_per_id.into())?
            .checked_add(HEADER_LEN as u64)
    }

    fn file_len(&self) -> Option<u64> {
        self.num_documents
            .checked_mul(ENTRY_LEN)?
            .checked_add(self.index_offset()?)
    }

    /// The 64 bytes of this header.
    ///
    /// # Errors
    /// When the sizes overflow.
    pub fn encode(&self) -> Result<[u8; HEADER_LEN]> {
        let index_offset = self
            .index_offset()
            .ok_or_else(|| Error::Value("shard too large".into()))?;
        let mut bytes = [0; HEADER_LEN];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = self.bytes_per_id;
        bytes[12..16].copy_from_slice(&self.vocab_size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.num_tokens.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.num_documents.to_le_bytes());
        bytes[32..40].copy_from_slice(&index_offset.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.max_token.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// Read and check a header against the length of its file. Never panics, never allocates by what it reads.
    ///
    /// # Errors
    /// The reason, without the path.
    pub fn decode(bytes: &[u8], file_len: u64) -> std::result::Result<Self, String> {
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(format!("{file_len} bytes are too few for a shard"));
        };
        if &bytes[0..8] != MAGIC {
            return Err("not a token shard (wrong magic bytes)".into());
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version > VERSION {
            return Err(format!("shard version {version}, this tttkit reads up to {VERSION}"));
        }
        let mut unsigned = *bytes;
        unsigned[44..48].fill(0);
        if crc32c::crc32c(&unsigned) != read_u32(bytes, 44) {
            return Err("the header is corrupt (checksum)".into());
        }
        let header = Self {
            bytes_per_id: bytes[10],
            vocab_size: read_u32(bytes, 12),
            num_tokens: read_u64(bytes, 16),
            num_documents: read_u64(bytes, 24),
            max_token: read_u32(bytes, 40),
        };
        header.check(read_u64(bytes, 32), file_len)?;
        if bytes[11] != 0 || bytes[48..].iter().any(|&byte| byte != 0) {
            return Err("reserved bytes of the header are not zero".into());
        }
        Ok(header)
    }

    fn check(&self, index_offset: u64, file_len: u64) -> std::result::Result<(), String> {
        let expected = Self::empty(self.vocab_size).bytes_per_id;
        if self.bytes_per_id != expected {
            return Err(format!(
                "{} bytes per id, expected {expected} for a vocabulary of {}",
                self.bytes_per_id, self.vocab_size
            ));
        }
        if self.num_tokens > 0 && self.max_token >= self.vocab_size {
            return Err(format!(
                "id {} is not below the vocabulary size {}",
                self.max_token, self.vocab_size
            ));
        }
        if self.file_len() != Some(file_len) || self.index_offset() != Some(index_offset) {
            return Err(format!(
                "{file_len} bytes do not hold exactly {} tokens and {} documents (truncated or grown)",
                self.num_tokens, self.num_documents
            ));
        }
        if self.num_documents > self.num_tokens {
            return Err("more documents than tokens".into());
        }
        Ok(())
    }
}

fn read_u32(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn read_u64(bytes: &[u8; HEADER_LEN], at: usize) -> u64 {
    u64::from(read_u32(bytes, at)) | u64::from(read_u32(bytes, at + 4)) << 32
}

/// A finished shard, as the manifest lists it.
#[derive(Debug, Clone)]
pub struct ShardInfo {
    /// File name inside the data directory.
    pub name: String,
    /// What the header says.
    pub header: Header,
    /// SHA-256 of the file, hex.
    pub sha256: String,
}

/// Writes one shard under a temporary name; `finish` syncs and renames it, dropping it unfinished removes it.
pub struct ShardWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    header: Header,
    ends: Vec<u64>,
    bytes: Vec<u8>,
    finished: bool,
}

impl ShardWriter {
    /// Start a shard that will become `path`.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path, vocab_size: u32) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".tmp-{name}-{}-{:08x}", std::process::id(), random()));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(Error::io(&temporary))?;
        file.write_all(&[0; HEADER_LEN]).map_err(Error::io(&temporary))?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
            file: BufWriter::with_capacity(1 << 20, file),
            header: Header::empty(vocab_size),
            ends: Vec::new(),
            bytes: Vec::new(),
            finished: false,
        })
    }

    /// Ids written so far.
    pub fn num_tokens(&self) -> u64 {
        self.header.num_tokens
    }

    /// Append ids.
    ///
    /// # Errors
    /// For an id at or above the vocabulary size, or when the write fails.
    pub fn push<T: Id>(&mut self, ids: &[T]) -> Result<()> {
        let Some(max) = ids.iter().max().map(|max| max.value()) else {
            return Ok(());
        };
        if max >= self.header.vocab_size {
            return Err(Error::Data(format!(
                "token id {max} is not below the vocabulary size {}",
                self.header.vocab_size
            )));
        }
        let width = usize::from(self.header.bytes_per_id);
        self.bytes.resize(ids.len() * width, 0);
        if width == 2 {
            for (slot, id) in self.bytes.as_chunks_mut::<2>().0.iter_mut().zip(ids) {
                *slot = (id.value() as u16).to_le_bytes();
            }
        } else {
            for (slot, id) in self.bytes.as_chunks_mut::<4>().0.iter_mut().zip(ids) {
                *slot = id.value().to_le_bytes();
            }
        }
        self.file.write_all(&self.bytes).map_err(Error::io(&self.temporary))?;
        self.header.num_tokens += ids.len() as u64;
        self.header.max_token = self.header.max_token.max(max);
        Ok(())
    }

    /// The document whose ids were pushed last ends here.
    pub fn end_document(&mut self) {
        self.header.num_documents += 1;
        self.ends.push(self.header.num_tokens);
    }

    /// Write index and header, sync, rename into place.
    ///
    /// # Errors
    /// When a write, sync or rename fails; nothing is left under the final name then.
    pub fn finish(mut self) -> Result<ShardInfo> {
        for end in &self.ends {
            self.file
                .write_all(&end.to_le_bytes())
                .map_err(Error::io(&self.temporary))?;
        }
        self.file.flush().map_err(Error::io(&self.temporary))?;
        let header = self.header.encode()?;
        let file = self.file.get_mut();
        let written = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&header))
            .and_then(|()| file.sync_all());
        written.map_err(Error::io(&self.temporary))?;
        let sha256 = sha256_of(&self.temporary)?;
        std::fs::rename(&self.temporary, &self.path).map_err(Error::io(&self.path))?;
        self.finished = true;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        File::open(directory)
            .and_then(|opened| opened.sync_all())
            .map_err(Error::io(directory))?;
        let name = self.path.file_name().unwrap_or_default();
        Ok(ShardInfo {
            name: name.to_string_lossy().into_owned(),
            header: self.header,
            sha256,
        })
    }
}

/// A number that two writers hardly share, from the keys that the standard library draws for its hash maps.
fn random() -> u32 {
    RandomState::new().hash_one(0) as u32
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// SHA-256 of a file, hex, in bounded memory.
///
/// # Errors
/// When the file cannot be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = std::io::Read::read(&mut file, &mut buffer).map_err(Error::io(path))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    Ok(hasher
        .finalize()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
}

enum Bytes {
    Mapped(Mmap),
    Positional(File),
}

/// A shard opened for reading, its header checked.
pub struct Shard {
    path: PathBuf,
    header: Header,
    bytes: Bytes,
}

impl Shard {
    /// Open a shard, mapped into memory or, for file systems that may truncate under us, read by position.
    ///
    /// # Errors
    /// When the file cannot be opened or is no whole shard.
    pub fn open(path: &Path, mapped: bool) -> Result<Self> {
        // Without O_NONBLOCK a pipe in place of a shard would wait for a writer.
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(Error::io(path))?;
        let metadata = file.metadata().map_err(Error::io(path))?;
        if !metadata.is_file() {
            return Err(Error::shard(path, "not a regular file"));
        }
        let mut head = [0; HEADER_LEN];
        let available = HEADER_LEN.min(usize::try_from(metadata.len()).unwrap_or(HEADER_LEN));
        file.read_exact_at(&mut head[..available], 0).map_err(Error::io(path))?;
        let header = Header::decode(&head[..available], metadata.len()).map_err(|reason| Error::shard(path, reason))?;
        let bytes = if mapped {
            // SAFETY: shards are written once and replaced by rename, so the mapped inode does not change.
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

    /// What the shard says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Copy the ids `start .. start + target.len()` of this shard.
    ///
    /// # Errors
    /// When the range leaves the shard or the read fails.
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
                *slot = T::try_from(id).map_err(|_| Error::shard(&self.path, format!("id {id} is too large")))?;
            }
            Ok(())
        })?
    }

    /// Ask for the memory of ids before they are read, as far as it is mapped.
    pub fn prefetch(&self, start: u64, len: usize) {
        #[cfg(target_arch = "x86_64")]
        if let Bytes::Mapped(map) = &self.bytes {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let width = usize::from(self.header.bytes_per_id);
            let from = HEADER_LEN + start as usize * width;
            for line in map
                .get(from..)
                .unwrap_or_default()
                .chunks(64)
                .take((len * width).div_ceil(64) + 1)
            {
                // SAFETY: the address lies in the map; a prefetch reads nothing.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (start, len);
    }

    /// Positions after the last token of each document that ends here, relative to the shard.
    ///
    /// # Errors
    /// When the read fails or the positions do not rise within the shard.
    pub fn document_ends(&self) -> Result<Vec<u64>> {
        let from = HEADER_LEN as u64 + self.header.num_tokens * u64::from(self.header.bytes_per_id);
        let len = (self.header.num_documents * ENTRY_LEN) as usize;
        let ends: Vec<u64> = self.with_bytes(from, len, |bytes| {
            bytes
                .chunks_exact(ENTRY_LEN as usize)
                .map(|entry| {
                    let mut raw = [0; 8];
                    raw.copy_from_slice(entry);
                    u64::from_le_bytes(raw)
                })
                .collect()
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
        let (mut low, mut high) = (0, self.header.num_documents);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.document_end(middle)? > after {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low < self.header.num_documents && self.document_end(low)? <= until)
    }

    fn document_end(&self, index: u64) -> Result<u64> {
        let from = HEADER_LEN as u64 + self.header.num_tokens * u64::from(self.header.bytes_per_id) + index * ENTRY_LEN;
        self.with_bytes(from, ENTRY_LEN as usize, |bytes| {
            let mut raw = [0; ENTRY_LEN as usize];
            raw.copy_from_slice(bytes);
            u64::from_le_bytes(raw)
        })
    }

    /// Read everything: checksum of the file, every id below the vocabulary, the index of documents.
    ///
    /// # Errors
    /// The first fault found.
    pub fn verify(&self, sha256: &str) -> Result<()> {
        let found = sha256_of(&self.path)?;
        if found != sha256 {
            return Err(Error::shard(
                &self.path,
                format!("SHA-256 is {found}, the manifest says {sha256}"),
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
                format!("largest id is {max}, the header says {}", self.header.max_token),
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
