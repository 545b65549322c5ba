//! Packing and shards through the public interface: round trips, and corrupt headers.

use std::path::PathBuf;

use _rust::pack::{Packer, write_range};
use _rust::shard::{HEADER_LEN, Header, Shard};
use _rust::split::TokenSplit;
use proptest::prelude::*;

const EOS: u32 = 0;

fn pack(directory: &std::path::Path, documents: &[Vec<u32>], vocab_size: u32, shard_tokens: u64) -> Vec<PathBuf> {
    let mut packer = Packer::new(directory, "train", vocab_size, EOS, shard_tokens).expect("valid arguments");
    for ids in documents {
        packer.add_document(ids).expect("ids are below the vocabulary size");
    }
    let shards = packer.finish().expect("the directory is writable");
    shards.iter().map(|shard| directory.join(&shard.name)).collect()
}

fn documents(vocab_size: u32) -> impl Strategy<Value = Vec<Vec<u32>>> {
    prop::collection::vec(prop::collection::vec(0..vocab_size, 0..20), 1..20)
}

fn corpus() -> impl Strategy<Value = (u32, Vec<Vec<u32>>)> {
    prop_oneof![Just(300), Just(65_536), Just(65_537), Just(200_000)]
        .prop_flat_map(|vocab_size| (Just(vocab_size), documents(vocab_size)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 6 } else { 64 }))]

    #[test]
    fn packed_documents_are_read_back((vocab_size, documents) in corpus(), shard_tokens in 1_u64..40, mapped: bool) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let paths = pack(directory.path(), &documents, vocab_size, shard_tokens);
        let split = TokenSplit::open(&paths, mapped).expect("whole shards");
        let mut expected = Vec::new();
        let mut ends = Vec::new();
        for ids in &documents {
            expected.extend(ids);
            expected.push(EOS);
            ends.push(expected.len() as u64);
        }
        let mut tokens = vec![0_u32; expected.len()];
        split.read(0, &mut tokens).expect("the whole split");
        prop_assert_eq!(&tokens, &expected);
        prop_assert_eq!(split.document_ends().expect("a sound index"), ends);
        prop_assert_eq!(split.num_documents(), documents.len() as u64);
        for shard in split.shards() {
            prop_assert!(shard.header().num_tokens <= shard_tokens);
        }
        prop_assert!(split.read(1, &mut tokens).is_err());
    }

    #[test]
    fn any_range_is_the_same_mapped_or_by_position(
        (vocab_size, documents) in corpus(), start in 0_usize..50, len in 0_usize..50,
    ) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let paths = pack(directory.path(), &documents, vocab_size, 7);
        let (mapped, read) = (TokenSplit::open(&paths, true), TokenSplit::open(&paths, false));
        let (mapped, read) = (mapped.expect("whole shards"), read.expect("whole shards"));
        let (mut first, mut second) = (vec![0_u32; len], vec![0_u32; len]);
        let inside = (start + len) as u64 <= mapped.num_tokens();
        prop_assert_eq!(mapped.read(start as u64, &mut first).is_ok(), inside);
        prop_assert_eq!(read.read(start as u64, &mut second).is_ok(), inside);
        if inside {
            prop_assert_eq!(first, second);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 12 }))] // every shard is synced

    #[test]
    fn shards_copied_from_shards_of_other_sizes_are_the_packed_ones(
        (vocab_size, documents) in corpus(), shard_tokens in 1_u64..40, piece_tokens in 1_u64..40, mapped: bool,
    ) {
        let (packed, pieces, copied) = (tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?);
        let expected = pack(packed.path(), &documents, vocab_size, shard_tokens);
        let split = TokenSplit::open(&pack(pieces.path(), &documents, vocab_size, piece_tokens), mapped)
            .expect("whole shards");
        for (index, path) in expected.iter().enumerate() {
            let start = index as u64 * shard_tokens;
            let stop = split.num_tokens().min(start + shard_tokens);
            let copy = copied.path().join(path.file_name().expect("a file"));
            let info = write_range(&split, start..stop, &copy).expect("a range of the split");
            prop_assert_eq!(std::fs::read(&copy)?, std::fs::read(path)?);
            let shard = Shard::open(&copy, mapped).expect("a whole shard");
            prop_assert_eq!(shard.header(), &info.header);
        }
        let num_tokens = split.num_tokens();
        let beyond = copied.path().join("beyond");
        prop_assert!(write_range(&split, num_tokens..num_tokens, &beyond).is_err());
        prop_assert!(write_range(&split, 0..num_tokens + 1, &beyond).is_err());
        prop_assert_eq!(std::fs::read_dir(copied.path())?.count(), expected.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 50 } else { 20_000 }))]

    #[test]
    fn random_bytes_are_not_a_header(bytes in prop::collection::vec(any::<u8>(), 0..2 * HEADER_LEN), file_len: u64) {
        prop_assert!(Header::decode(&bytes, file_len).is_err());
    }

    #[test]
    fn a_changed_header_is_rejected(num_tokens in 0_u64..1_000, position in 0..HEADER_LEN, flip in 1_u8..) {
        let header = Header { num_tokens, num_documents: num_tokens / 3, ..Header::empty(300) };
        let mut bytes = header.encode().expect("a small shard");
        let file_len = HEADER_LEN as u64 + 2 * num_tokens + 8 * header.num_documents;
        prop_assert_eq!(Header::decode(&bytes, file_len), Ok(header));
        bytes[position] ^= flip;
        prop_assert!(Header::decode(&bytes, file_len).is_err());
    }

    #[test]
    fn a_header_with_a_correct_checksum_and_wrong_sizes_is_rejected(
        num_tokens: u64, num_documents: u64, max_token: u32, vocab_size: u32, file_len in 0_u64..1 << 40,
    ) {
        let header = Header { num_tokens, num_documents, max_token, ..Header::empty(vocab_size) };
        if let Ok(bytes) = header.encode() && let Ok(decoded) = Header::decode(&bytes, file_len) {
            prop_assert_eq!(decoded, header);
            prop_assert!(num_tokens <= file_len && num_documents <= num_tokens);
        }
    }
}

#[test]
fn ids_outside_the_vocabulary_are_rejected_and_leave_no_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut packer = Packer::new(directory.path(), "train", 300, EOS, 100).expect("valid arguments");
    let error = packer.add_document(&[1, 300]).expect_err("300 is not below 300");
    assert!(
        error
            .to_string()
            .contains("token id 300 is not below the vocabulary size 300")
    );
    drop(packer);
    assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 0);
}

#[test]
fn a_damaged_byte_fails_verification() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut packer = Packer::new(directory.path(), "train", 300, EOS, 1_000).expect("valid arguments");
    packer.add_document(&[5, 6, 7]).expect("small ids");
    let info = packer.finish().expect("writable").remove(0);
    let path = directory.path().join(&info.name);
    Shard::open(&path, true)
        .and_then(|shard| shard.verify(&info.sha256))
        .expect("it is whole");
    let mut bytes = std::fs::read(&path).expect("readable");
    bytes[HEADER_LEN] ^= 1;
    std::fs::write(&path, bytes).expect("writable");
    let shard = Shard::open(&path, true).expect("the header is sound");
    assert!(shard.verify(&info.sha256).is_err());
}
