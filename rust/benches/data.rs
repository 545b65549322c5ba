//! Benchmarks of the inner loops of the data engine, for each set of instructions: `make bench-rust`.

use std::hint::black_box;
use std::mem::MaybeUninit;

use _rust::bpe::{Bpe, LANES, Scratch, Simd, masks_of};
use _rust::pack::Packer;
use _rust::split::TokenSplit;
use _rust::window::Sampling;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[path = "../fuzz/bodies.rs"]
mod bodies;

const TEXT_BYTES: usize = 1 << 20;

/// Text like prose: random words of a vocabulary of `num_words`, in which some words are frequent.
fn prose(num_words: u64) -> String {
    let mut text = String::new();
    let mut state = 1_u64;
    while text.len() < TEXT_BYTES {
        state = _rust::window::mix(state);
        let mut word = _rust::window::mix(state % num_words.min(1 + (state >> 32) % num_words));
        for _ in 0..2 + word % 8 {
            word = _rust::window::mix(word);
            text.push(char::from(b'a' + (word % 26) as u8));
        }
        text.push_str(if state.is_multiple_of(16) { ".\n" } else { " " });
    }
    text
}

fn masks(criterion: &mut Criterion) {
    let text = prose(1_000);
    let (chunks, _) = text.as_bytes().as_chunks::<LANES>();
    let mut group = criterion.benchmark_group("masks of 64 bytes");
    group.throughput(Throughput::Bytes(size_of_val(chunks) as u64));
    for simd in Simd::available() {
        group.bench_function(simd.name(), |bencher| {
            bencher.iter(|| chunks.iter().fold(0, |all, chunk| all ^ masks_of(chunk, simd).spaces));
        });
    }
}

fn encode(criterion: &mut Criterion) {
    let json = bodies::tokenizer_json();
    for (name, num_words) in [("words in the cache", 1_000), ("words to merge", u64::MAX)] {
        let text = prose(num_words);
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(text.len() as u64));
        for simd in Simd::available() {
            let bpe = Bpe::new(&json, simd).expect("tables").expect("a byte-level BPE");
            let (mut scratch, mut ids) = (Scratch::<u16>::new(17), Vec::new());
            group.bench_function(simd.name(), |bencher| {
                bencher.iter(|| {
                    ids.clear();
                    if num_words == u64::MAX {
                        scratch = Scratch::new(10);
                    }
                    bpe.encode(&text, true, &mut scratch, &mut ids);
                    black_box(ids.len())
                });
            });
        }
    }
}

fn windows(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut packer = Packer::new(directory.path(), "train", 50_257, 0, 1 << 24).expect("valid arguments");
    let ids: Vec<u32> = (0..1 << 24).map(|id| id % 50_000).collect();
    packer.add_document(&ids[1..]).expect("ids of the vocabulary");
    let shards = packer.finish().expect("writable");
    let split = TokenSplit::open(&[directory.path().join(&shards[0].name)], true).expect("a whole shard");
    for batch_size in [32, 4_096] {
        let window = 64;
        let sampling = Sampling {
            num_windows: (split.num_tokens() - 1) / window,
            batch_size,
            seed: 1,
            rank: 0,
            world_size: 1,
        };
        let mut group = criterion.benchmark_group(format!("a batch of {batch_size}"));
        group.throughput(Throughput::Elements(batch_size));
        let mut step = 0;
        group.bench_function("permutation", |bencher| {
            bencher.iter(|| {
                step += 1;
                sampling.windows(step).expect("a step in range").len()
            });
        });
        let mut target = vec![MaybeUninit::uninit(); (batch_size * (window + 1)) as usize];
        group.bench_function("permutation and gather", |bencher| {
            bencher.iter(|| {
                step += 1;
                let windows = sampling.windows(step).expect("a step in range");
                split
                    .gather(&windows, window, &mut target)
                    .expect("windows of the split");
            });
        });
    }
}

criterion_group!(benches, masks, encode, windows);
criterion_main!(benches);
