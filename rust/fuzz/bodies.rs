//! The checks of the fuzz targets. cargo-fuzz runs them on bytes that libFuzzer generates (`cargo +nightly fuzz run
//! bpe`), and the proptests of `tests/hostile.rs` run them on random bytes, with a stable toolchain.

#![allow(dead_code, reason = "each user calls some of these")]

#[path = "families.rs"]
mod families;

use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use _rust::bpe::{Bpe, Scratch, Simd};
use _rust::encode::Encoder;
use _rust::shard::{HEADER_LEN, Header, Shard};
pub use families::{FAMILIES, Family};

/// Read bytes as a shard: they must be rejected or read to the end without a panic. Returns whether they were
/// accepted.
pub fn shard(bytes: &[u8]) -> bool {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.as_file().write_all_at(bytes, 0).expect("writable");
    read_shard(file.path())
}

/// Like `shard`, for a file.
pub fn read_shard(path: &std::path::Path) -> bool {
    let [mapped, read] = [true, false].map(|mapped| Shard::open(path, mapped).ok());
    let (Some(mapped), Some(read)) = (mapped, read) else {
        return false;
    };
    assert_eq!(mapped.header(), read.header());
    let count = mapped.header().num_tokens.min(1 << 12);
    let (mut first, mut second) = (vec![0_u32; count as usize], vec![0_u32; count as usize]);
    for start in [0, mapped.header().num_tokens - count] {
        mapped.read(start, &mut first).expect("inside");
        read.read(start, &mut second).expect("inside");
        assert_eq!(first, second);
    }
    assert!(mapped.read(u64::MAX, &mut [0_u32]).is_err());
    assert!(mapped.read(mapped.header().num_tokens, &mut [0_u32]).is_err());
    assert_eq!(mapped.document_ends().ok(), read.document_ends().ok());
    let _ = (mapped.has_end(0, u64::MAX), mapped.verify(""));
    true
}

/// Set the magic bytes, the version and the checksum of a header to the right values, whatever its other fields are.
pub fn sign(header: &mut [u8; HEADER_LEN]) {
    header[..10].copy_from_slice(b"TTTSHARD\x01\0");
    resign(header);
}

/// Set the checksum of a header to the right value.
pub fn resign(header: &mut [u8; HEADER_LEN]) {
    header[44..48].fill(0);
    let checksum = crc32c::crc32c(header);
    header[44..48].copy_from_slice(&checksum.to_le_bytes());
}

/// Read a header for a file of this length: it must be rejected or have consistent sizes. Returns whether it was
/// accepted.
pub fn header(bytes: &[u8], file_len: u64) -> bool {
    let Ok(header) = Header::decode(bytes, file_len) else {
        return false;
    };
    assert!(header.num_documents <= header.num_tokens && header.num_tokens <= file_len);
    let again = header.encode().expect("it fits a file");
    assert_eq!(again[..], bytes[..HEADER_LEN]);
    true
}

/// Compare every set of instructions, on whole text and in parts, with the `tokenizers` crate, for every family.
pub fn bpe(bytes: &[u8]) {
    type Encoders = (&'static str, tokenizers::Tokenizer, Vec<Bpe>);
    static ENCODERS: OnceLock<Vec<Encoders>> = OnceLock::new();
    let families = ENCODERS.get_or_init(|| {
        let of_family = |family: &Family| {
            let json = family_json(family);
            let new = |simd| Bpe::new(&json, simd).expect("tables").expect("a byte-level BPE");
            let ours = Simd::available().into_iter().map(new).collect();
            (family.name, json.parse().expect("valid"), ours)
        };
        FAMILIES.iter().map(of_family).collect()
    });
    let text = String::from_utf8_lossy(bytes);
    for (name, library, ours) in families {
        let expected = library.encode_fast(&*text, false).expect("any text");
        for bpe in ours {
            let mut scratch = Scratch::<u32>::new(2);
            let (mut whole, mut parts) = (Vec::new(), Vec::new());
            bpe.encode(&text, true, &mut scratch, &mut whole);
            assert_eq!(whole, expected.get_ids(), "{name}: {text:?}");
            for (index, part) in bpe.parts(&text, 16).into_iter().enumerate() {
                bpe.encode(part, index == 0, &mut scratch, &mut parts);
            }
            assert_eq!(parts, expected.get_ids(), "{name}, in parts: {text:?}");
        }
    }
}

/// `tokenizer_json` with the pre-tokenizer and the normalizer of a family.
pub fn family_json(family: &Family) -> String {
    let mut json: serde_json::Value = serde_json::from_str(&tokenizer_json()).expect("valid");
    json["pre_tokenizer"] = serde_json::from_str(family.pre_tokenizer).expect("valid");
    if family.is_nfc {
        json["normalizer"] = serde_json::json!({"type": "NFC"});
    }
    json.to_string()
}

/// Read bytes as a tokenizer.json: it must be rejected, or encode and have a short form that is the same tokenizer.
pub fn tokenizer(bytes: &[u8]) {
    let Ok(json) = std::str::from_utf8(bytes) else {
        return;
    };
    let simd = Simd::choose().expect("TTTKIT_SIMD names instructions of this processor");
    if !matches!(Bpe::new(json, simd), Ok(Ok(_))) {
        return;
    }
    let Ok(encoder) = Encoder::new(json) else {
        return;
    };
    let again = Encoder::new(encoder.json()).expect("the short form of a valid tokenizer");
    assert_eq!(again.json(), encoder.json());
    assert_eq!(again.vocab_size(), encoder.vocab_size());
    let text = ["It's 12 o'clock  \u{3000}\u{e9}!\n<|endoftext|>".to_owned()];
    assert_eq!(again.encode(&text, 1).ok(), encoder.encode(&text, 1).ok());
}

/// Number of bytes that describe one change of a tokenizer.
pub const CHANGE_LEN: usize = 8;

/// `tokenizer_json` with changes. Each change has a place, a length to cut there, and bytes to insert.
pub fn changed_tokenizer(changes: &[u8]) -> Vec<u8> {
    static JSON: OnceLock<String> = OnceLock::new();
    let mut json = JSON.get_or_init(tokenizer_json).clone().into_bytes();
    for change in changes.chunks_exact(CHANGE_LEN) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % json.len();
        let stop = json.len().min(place + usize::from(change[2]) % 8);
        let new = &change[4..][..usize::from(change[3]) % 5];
        json.splice(place..stop, new.iter().copied());
    }
    json
}

/// A byte-level BPE with a few merges, some of which overlap, and two added tokens, one of which contains the other.
pub fn tokenizer_json() -> String {
    let mut shifted = 0x100;
    let mut vocab: Vec<String> = (0_u32..256)
        .map(|byte| {
            let printable = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
            shifted += u32::from(!printable);
            let code = if printable { byte } else { shifted - 1 };
            char::from_u32(code).expect("a character").to_string()
        })
        .collect();
    let merges = [
        "Ġ t",
        "h e",
        "Ġt he",
        "i n",
        "r e",
        "a b",
        "b a",
        "ab ab",
        "a a",
        "aa aa",
        "Ġ Ġ",
        "ĠĠ ĠĠ",
        "' s",
        "Ã ©",
        "Ċ Ċ",
        "1 2",
        "! !",
        "in g",
        "Ġ a",
        "l l",
    ];
    vocab.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let ids: serde_json::Map<String, serde_json::Value> = vocab
        .into_iter()
        .enumerate()
        .map(|(id, token)| (token, id.into()))
        .collect();
    let added = |id: usize, content: &str| {
        serde_json::json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    let byte_level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [added(ids.len(), "<|endoftext|>"), added(ids.len() + 1, "<|")],
        "pre_tokenizer": byte_level, "decoder": byte_level,
        "model": {"type": "BPE", "vocab": ids, "merges": merges},
    })
    .to_string()
}
