//! The number of times that each word occurs, in bounded memory.

use ahash::AHashMap;
use compact_str::CompactString;

/// Most bytes of different words that are kept. Learning needs about 60 bytes of memory for each.
const MAX_BYTES: usize = 8 << 20;

/// How often each word occurs. When the words take more than `MAX_BYTES`, the rarest are forgotten until half of that
/// is left; of words that occur equally often, the longest go first.
#[derive(Default)]
pub struct Counts {
    words: AHashMap<CompactString, u64>,
    num_bytes: usize,
}

impl Counts {
    /// Count a word.
    pub fn add(&mut self, word: &str, count: u64) {
        if let Some(known) = self.words.get_mut(word) {
            *known += count;
        } else {
            self.num_bytes += word.len();
            self.words.insert(word.into(), count);
        }
    }

    /// Add the counts of another text.
    pub fn merge(&mut self, other: Self) {
        for (word, count) in other.words {
            self.add(&word, count);
        }
        if self.num_bytes > MAX_BYTES {
            self.forget(MAX_BYTES / 2);
        }
    }

    /// Keep the most frequent words, of at most `max_bytes` together.
    fn forget(&mut self, max_bytes: usize) {
        let mut words: Vec<_> = std::mem::take(&mut self.words).into_iter().collect();
        words.sort_unstable_by(|(first, first_count), (second, second_count)| {
            let by_count = second_count.cmp(first_count);
            let by_length = by_count.then(first.len().cmp(&second.len()));
            by_length.then_with(|| first.cmp(second))
        });
        self.num_bytes = 0;
        words.retain(|(word, _)| {
            self.num_bytes += word.len();
            self.num_bytes <= max_bytes
        });
        self.num_bytes = words.iter().map(|(word, _)| word.len()).sum();
        self.words = words.into_iter().collect();
    }

    /// The words with their counts, in no order.
    pub fn into_words(self) -> impl Iterator<Item = (CompactString, u64)> {
        self.words.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_and_then_long_words_are_forgotten_first() {
        let mut counts = Counts::default();
        for (word, count) in [("often", 3), ("c", 1), ("a", 1), ("longer", 1), ("b", 2)] {
            counts.add(word, count);
        }
        counts.forget(7);
        let mut kept: Vec<_> = counts.into_words().collect();
        kept.sort();
        assert_eq!(kept, [("a".into(), 1), ("b".into(), 2), ("often".into(), 3)]);
    }

    #[test]
    fn words_take_bounded_memory() {
        let mut counts = Counts::default();
        counts.add("often", 2);
        for start in 0..40 {
            let mut block = Counts::default();
            for number in 0..4000 {
                block.add(&format!("{:0200}", start * 4000 + number), 1);
            }
            counts.merge(block);
            assert!(counts.num_bytes <= MAX_BYTES);
        }
        assert!(counts.num_bytes > MAX_BYTES / 4);
        assert!(counts.into_words().any(|word| word == ("often".into(), 2)));
    }
}
