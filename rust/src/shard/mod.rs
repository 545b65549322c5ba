//! Token shards: a 64-byte header, the ids, the index of document ends. Shards are little-endian, written once, and
//! only ever replaced by rename.
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
//! For each document that ends in the shard, the index holds the position after its last token, relative to the shard.
//! The file is exactly `64 + tokens + index` bytes long.

mod header;
mod reader;
mod writer;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
pub use header::{HEADER_LEN, Header, MAX_U16_VOCAB};
pub use reader::Shard;
pub use writer::{ShardInfo, ShardWriter};

/// Bytes per document in the index.
const ENTRY_LEN: u64 = 8;

/// Open a regular file: neither a link, which could lead anywhere, nor a pipe, which would block.
fn open_regular(path: &Path) -> Result<File> {
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | if cfg!(miri) { 0 } else { libc::O_NONBLOCK }) // Miri has no pipes
        .open(path);
    let file = match opened {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(Error::shard(
                path,
                "a symbolic link, but a shard must be a regular file",
            ));
        }
        opened => opened.map_err(Error::io(path))?,
    };
    if file.metadata().map_err(Error::io(path))?.is_file() {
        Ok(file)
    } else {
        Err(Error::shard(path, "not a regular file"))
    }
}

/// SHA-256 of a shard's file as hex, in bounded memory.
///
/// # Errors
/// When the file cannot be read or is a link.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mut file = open_regular(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 17]; // what is read stays in the processor's cache until it is hashed
    loop {
        let count = file.read(&mut buffer).map_err(Error::io(path))?;
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
