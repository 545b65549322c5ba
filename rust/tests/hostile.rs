//! Hostile headers, shards and tokenizers are rejected without a panic and without much memory. The fuzz targets use
//! the same checks.

#[path = "../fuzz/bodies.rs"]
mod bodies;
#[path = "../fuzz/sentencepiece.rs"]
mod sentencepiece;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::fs::FileExt;

use _rust::shard::{HEADER_LEN, Header};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use rand_core::RngCore;

/// The system's allocator, which also records the largest allocation of each thread.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

const MAX_BYTES: usize = 1 << 20;
const NUM_HEADERS: u32 = if cfg!(miri) { 300 } else { 100_000 };
/// Length of the body after every hostile header.
const BODY_LEN: u64 = 512;

fn largest_allocation(work: impl FnOnce()) -> usize {
    LARGEST.with(|largest| largest.set(0));
    work();
    LARGEST.with(Cell::get)
}

#[test]
fn the_allocator_sees_a_large_allocation() {
    let seen = largest_allocation(|| drop(std::hint::black_box(vec![1_u8; 3 << 20])));
    assert_eq!(seen, 3 << 20);
}

/// Write a number, often an extreme one, into some bytes.
fn spoil(bytes: &mut [u8], random: &mut TestRng) {
    let value = match random.next_u32() % 6 {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << (random.next_u32() % 64),
        3 => (BODY_LEN + HEADER_LEN as u64) / u64::from(1 + random.next_u32() % 16),
        4 => u64::from(random.next_u32() % 300),
        _ => random.next_u64(),
    };
    bytes.copy_from_slice(&value.to_le_bytes()[..bytes.len()]);
}

/// Usually a valid header with up to two spoiled fields and a correct checksum, sometimes random bytes.
fn hostile_header(random: &mut TestRng) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    if random.next_u32().is_multiple_of(8) {
        random.fill_bytes(&mut bytes);
        return bytes;
    }
    let num_documents = u64::from(random.next_u32() % 40);
    let header = Header {
        num_documents,
        num_tokens: (BODY_LEN - 8 * num_documents) / 2,
        max_token: random.next_u32() % 300,
        ..Header::empty(300)
    };
    bytes = header.encode().expect("a small shard");
    for _ in 0..random.next_u32() % 3 {
        let fields = [8..10, 10..11, 11..12, 12..16, 16..24, 24..32, 32..40, 40..44, 48..56];
        let field = fields[random.next_u32() as usize % fields.len()].clone();
        spoil(&mut bytes[field], random);
    }
    if !random.next_u32().is_multiple_of(8) {
        bodies::resign(&mut bytes);
    }
    bytes
}

#[test]
fn a_hundred_thousand_hostile_headers() {
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut body = [0; BODY_LEN as usize];
    random.fill_bytes(&mut body);
    file.as_file().write_all_at(&body, HEADER_LEN as u64).expect("writable");
    let mut accepted = 0;
    for number in 0..NUM_HEADERS {
        let bytes = hostile_header(&mut random);
        file.as_file().write_all_at(&bytes, 0).expect("writable");
        let largest = largest_allocation(|| {
            let (as_header, as_file) = (
                bodies::header(&bytes, HEADER_LEN as u64 + BODY_LEN),
                bodies::read_shard(file.path()),
            );
            assert_eq!(as_header, as_file, "header {number}: {bytes:?}");
            accepted += u32::from(as_file);
        });
        assert!(
            largest <= MAX_BYTES + HEADER_LEN,
            "header {number} took {largest} bytes: {bytes:?}"
        );
    }
    assert!(
        (NUM_HEADERS / 100..NUM_HEADERS / 5 * 3).contains(&accepted),
        "{accepted} of the headers were accepted"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 50 } else { 2_000 }))]

    #[test]
    fn random_bytes_are_not_a_shard(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(!bodies::shard(&bytes));
    }

    #[test]
    #[cfg_attr(miri, ignore = "tables of megabytes")]
    fn any_text_has_the_ids_of_the_library(
        text in "[ab'st 12é\u{3000}\\n!<|]{0,80}|(<\\||<\\|endoftext\\|>|the|'s|  |abab| 12){0,20}|\\PC{0,60}",
    ) {
        bodies::bpe(text.as_bytes());
    }

    #[test]
    #[cfg_attr(miri, ignore = "tables of megabytes")]
    fn any_bytes_have_the_ids_of_the_library(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        bodies::bpe(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    #[cfg_attr(miri, ignore = "tables of megabytes")]
    fn a_changed_tokenizer_is_rejected_or_works(changes in prop::collection::vec(any::<u8>(), 0..32)) {
        bodies::tokenizer(&bodies::changed_tokenizer(&changes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    #[cfg_attr(miri, ignore = "tables of megabytes")]
    fn any_bytes_have_the_ids_of_the_library_with_every_sentencepiece(
        bytes in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        sentencepiece::any_text(&bytes);
    }

    #[test]
    #[cfg_attr(miri, ignore = "tables of megabytes")]
    fn a_changed_sentencepiece_is_refused_with_a_reason_or_has_the_ids_of_the_library(
        kind: u8,
        changes in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        sentencepiece::any_json(&sentencepiece::changed_json(kind, &changes));
    }
}
