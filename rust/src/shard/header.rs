//! The header: the first 64 bytes of a shard, and its checks.

use super::ENTRY_LEN;
use crate::error::{Error, Result};

/// Length of the header in bytes.
pub const HEADER_LEN: usize = 64;
const MAGIC: &[u8; 8] = b"TTTSHARD";
const VERSION: u16 = 1;

/// Largest vocabulary whose ids fit two bytes each.
pub const MAX_U16_VOCAB: u32 = 1 << 16;

/// The fields of a shard's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes per id, 2 or 4.
    pub bytes_per_id: u8,
    /// The vocabulary size: every id is below it.
    pub vocab_size: u32,
    /// Ids in this shard.
    pub num_tokens: u64,
    /// Documents whose last token is in this shard.
    pub num_documents: u64,
    /// Largest id in this shard; 0 if it is empty.
    pub max_token: u32,
}

impl Header {
    /// The header of an empty shard for a vocabulary of this size.
    pub fn empty(vocab_size: u32) -> Self {
        Self {
            bytes_per_id: if vocab_size <= MAX_U16_VOCAB { 2 } else { 4 },
            vocab_size,
            num_tokens: 0,
            num_documents: 0,
            max_token: 0,
        }
    }

    pub(super) fn index_offset(&self) -> Option<u64> {
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
            .ok_or_else(|| Error::Value("the shard is too large: its size does not fit 64 bits".into()))?;
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

    /// Read a header and check it against the length of its file. This never panics, and no allocation depends on the
    /// header's values.
    ///
    /// # Errors
    /// Returns the reason, without the path.
    pub fn decode(bytes: &[u8], file_len: u64) -> std::result::Result<Self, String> {
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(format!(
                "the file has {file_len} bytes, too few for the header of a shard"
            ));
        };
        if &bytes[0..8] != MAGIC {
            return Err("not a token shard (wrong magic bytes)".into());
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if !(1..=VERSION).contains(&version) {
            return Err(format!(
                "the shard has version {version}, this tttkit reads versions up to {VERSION}"
            ));
        }
        let mut unsigned = *bytes;
        unsigned[44..48].fill(0);
        if crc32c::crc32c(&unsigned) != read_u32(bytes, 44) {
            return Err("the header is corrupt: its checksum does not match".into());
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
            return Err("the header is corrupt: its reserved bytes are not zero".into());
        }
        Ok(header)
    }

    fn check(&self, index_offset: u64, file_len: u64) -> std::result::Result<(), String> {
        let expected = Self::empty(self.vocab_size).bytes_per_id;
        if self.bytes_per_id != expected {
            return Err(format!(
                "the header says {} bytes per id, expected {expected} for a vocabulary of {}",
                self.bytes_per_id, self.vocab_size
            ));
        }
        if self.num_tokens > 0 && self.max_token >= self.vocab_size {
            return Err(format!(
                "the header says that the largest id is {}, which is not below the vocabulary size {}",
                self.max_token, self.vocab_size
            ));
        }
        if self.file_len() != Some(file_len) || self.index_offset() != Some(index_offset) {
            return Err(format!(
                "the file has {file_len} bytes, which does not fit {} tokens and {} documents (truncated or grown)",
                self.num_tokens, self.num_documents
            ));
        }
        if self.num_documents > self.num_tokens {
            return Err("the header lists more documents than tokens".into());
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
