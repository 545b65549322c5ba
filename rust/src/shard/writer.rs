//! Write a shard under a temporary name, then sync, hash and rename it.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::header::{HEADER_LEN, Header};
use super::sha256_of;
use crate::beside::both;
use crate::bpe::Id;
use crate::error::{Error, Result};

/// Short documents are collected up to this size. The ids of a whole block are larger and go to the file at once.
const BUFFER_BYTES: usize = 1 << 16;

/// The system is asked to write to the disk whenever so many new bytes are there, so the sync at the end waits for little.
const STARTED_BYTES: u64 = 8 << 20;

/// A finished shard, as the manifest lists it.
#[derive(Debug, Clone)]
pub struct ShardInfo {
    /// File name inside the data directory.
    pub name: String,
    /// The header.
    pub header: Header,
    /// SHA-256 of the file as hex.
    pub sha256: String,
}

/// Writes one shard under a temporary name. `finish` syncs and renames the file; dropping the writer before that
/// removes it.
pub struct ShardWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    header: Header,
    ends: Vec<u64>,
    bytes: Vec<u8>,
    /// Bytes of ids that the system has been asked to write.
    num_started: u64,
    finished: bool,
}

impl ShardWriter {
    /// Start the shard that will become `path`.
    ///
    /// # Errors
    /// When the file cannot be created.
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
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            header: Header::empty(vocab_size),
            ends: Vec::new(),
            bytes: Vec::new(),
            num_started: 0,
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
        // A fold over values, unlike `max` over references, is compiled to vector instructions.
        let max = ids.iter().fold(T::default(), |max, &id| max.max(id)).value();
        if max >= self.header.vocab_size {
            return Err(Error::Data(format!(
                "token id {max} is not below the vocabulary size {}",
                self.header.vocab_size
            )));
        }
        let width = usize::from(self.header.bytes_per_id);
        if size_of::<T>() == width && cfg!(target_endian = "little") {
            // SAFETY: an id is a u16 or u32, and the bytes of those may be read as u8.
            let bytes = unsafe { std::slice::from_raw_parts(ids.as_ptr().cast(), size_of_val(ids)) };
            self.file.write_all(bytes).map_err(Error::io(&self.temporary))?;
        } else {
            self.bytes.clear();
            for id in ids {
                self.bytes.extend_from_slice(&id.value().to_le_bytes()[..width]);
            }
            self.file.write_all(&self.bytes).map_err(Error::io(&self.temporary))?;
        }
        self.header.num_tokens += ids.len() as u64;
        self.header.max_token = self.header.max_token.max(max);
        let num_bytes = self.header.num_tokens * width as u64;
        if num_bytes - self.num_started >= STARTED_BYTES {
            start_writing(self.file.get_ref());
            self.num_started = num_bytes;
        }
        Ok(())
    }

    /// End the document whose ids were pushed last.
    pub fn end_document(&mut self) {
        self.header.num_documents += 1;
        self.ends.push(self.header.num_tokens);
    }

    /// Record documents that were pushed, by the positions after their last tokens. The positions increase.
    pub fn end_documents(&mut self, ends: &[u64]) {
        self.header.num_documents += ends.len() as u64;
        self.ends.extend_from_slice(ends);
    }

    /// Write the index and the header, sync the file, and rename it into place.
    ///
    /// # Errors
    /// When a write, sync or rename fails. Then there is no file under the final name.
    pub fn finish(mut self) -> Result<ShardInfo> {
        for end in &self.ends {
            self.file
                .write_all(&end.to_le_bytes())
                .map_err(Error::io(&self.temporary))?;
        }
        self.file.flush().map_err(Error::io(&self.temporary))?;
        let header = self.header.encode()?;
        let file = self.file.get_mut();
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header));
        written.map_err(Error::io(&self.temporary))?;
        let (synced, sha256) = both(|| file.sync_all(), || sha256_of(&self.temporary));
        synced.map_err(Error::io(&self.temporary))?;
        let sha256 = sha256?;
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

/// Ask the system to begin to write what is not on the disk yet. An error of that write is told by the sync.
fn start_writing(file: &File) {
    #[cfg(target_os = "linux")]
    // SAFETY: the call takes a descriptor that is open, and no memory.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE);
    }
}

/// A random number that makes the names of two writers differ, from the random keys of the standard library's hash
/// maps.
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
