//! The masks find the words of the reader, and the reader finds the words of the `tokenizers` crate.

use proptest::prelude::*;
use tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use super::lanes::BLOCKS;
use super::scan::Splitter;
use super::steps::Steps;
use crate::bodies::{FAMILIES, Family};
use crate::bpe::masks::{LANES, Simd};
use crate::bpe::spec::byte_characters;

fn steps(family: &Family) -> Steps {
    let value = serde_json::from_str(family.pre_tokenizer).expect("valid");
    Steps::read(&value, &byte_characters()).expect(family.name)
}

fn splitters() -> &'static [(&'static Family, Splitter, PreTokenizerWrapper)] {
    static SPLITTERS: std::sync::OnceLock<Vec<(&Family, Splitter, PreTokenizerWrapper)>> = std::sync::OnceLock::new();
    SPLITTERS.get_or_init(|| {
        let of_family = |family: &'static Family| {
            let library = serde_json::from_str(family.pre_tokenizer).expect("valid");
            (family, Splitter::new(steps(family)).expect(family.name), library)
        };
        FAMILIES.iter().map(of_family).collect()
    })
}

/// The places where words start, as the reader finds them.
fn read(splitter: &Splitter, text: &str) -> Vec<usize> {
    let mut starts = vec![0];
    splitter
        .steps()
        .read_words(text.as_bytes(), &mut |end| starts.push(end));
    starts.pop();
    starts
}

fn scan(splitter: &Splitter, text: &str, simd: Simd) -> Vec<usize> {
    let mut masks = Vec::new();
    splitter.find_starts(text, simd, &mut masks);
    assert_eq!(masks.len(), text.len().div_ceil(64));
    (0..64 * masks.len())
        .filter(|at| masks[at / 64] >> (at % 64) & 1 == 1)
        .collect()
}

/// The lengths in bytes of the words of the library. Each of their characters stands for a byte.
fn library_starts(library: &PreTokenizerWrapper, text: &str) -> Vec<usize> {
    let mut pieces = PreTokenizedString::from(text);
    library.pre_tokenize(&mut pieces).expect("any text");
    let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let mut starts = vec![0];
    for (word, ..) in splits {
        starts.push(starts[starts.len() - 1] + word.chars().count());
    }
    starts.pop();
    starts
}

fn assert_same_words(text: &str) {
    for (family, splitter, library) in splitters() {
        let text = &if splitter.adds_space() {
            format!(" {text}")
        } else {
            text.to_owned()
        };
        if text.is_empty() {
            continue;
        }
        let expected = read(splitter, text);
        assert_eq!(library_starts(library, text), expected, "{}: {text:?}", family.name);
        for simd in Simd::available() {
            assert_eq!(
                scan(splitter, text, simd),
                expected,
                "{}, {}: {text:?}",
                family.name,
                simd.name()
            );
        }
    }
}

/// At every place for a cut, both parts together have the words of the whole.
fn assert_cuts(text: &str) {
    for (family, splitter, _) in splitters() {
        let whole = read(splitter, text);
        let mut characters = text.char_indices().peekable();
        while let (Some((_, left)), Some(&(at, right))) = (characters.next(), characters.peek()) {
            if splitter.may_cut(left, right) {
                let second = read(splitter, &text[at..]);
                let parts: Vec<usize> = read(splitter, &text[..at])
                    .into_iter()
                    .chain(second.iter().map(|start| at + start))
                    .collect();
                assert_eq!(parts, whole, "{} at {at}: {text:?}", family.name);
            }
        }
    }
}

const PIECES: &[&str] = &[
    "a", "Z", "s", "S", "é", "É", "ſ", "ǅ", "ʼ", "東", "の", "5", "½", "٣", "²", " ", "  ", "\n", "\r", "\t", "\u{a0}",
    "\u{3000}", "\u{2028}", "\u{85}", "'", "'s", "'re", "'ll", "'t", "'T", "'vE", "’", "“", "”", "!", "-", "/", "_",
    "(", "|", ".", "。", "\0", "😀", "\u{301}", "\u{378}", "\u{1c}", "\u{180e}", "\u{200b}", "\u{f35}", "word", "Word",
    "123", "12345", "    ", "\r\n", "\n\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn masks_reader_and_library_find_the_same_words(picks in prop::collection::vec(0..PIECES.len(), 0..300)) {
        assert_same_words(&picks.into_iter().map(|pick| PIECES[pick]).collect::<String>());
    }

    #[test]
    fn masks_reader_and_library_find_the_same_words_of_any_text(text in "\\PC{0,200}|[ \\s\\w'/!]{0,200}") {
        assert_same_words(&text);
    }

    #[test]
    fn a_cut_changes_no_words(picks in prop::collection::vec(0..PIECES.len(), 0..40)) {
        assert_cuts(&picks.into_iter().map(|pick| PIECES[pick]).collect::<String>());
    }
}

#[test]
fn rare_words_at_every_place_of_a_mask() {
    for tail in [
        "'llama",
        "'s",
        "'re 'd",
        "\u{3000}x",
        "\u{3000}\u{a0} x",
        "é\u{2003}",
        "x'",
        "'l5",
        "''ve",
        "1234567",
        "!\n\n/a",
        "\u{f35}",
        " \n \n  b",
        "“He",
    ] {
        // The second range is around the end of the first blocks that are computed together.
        let together = BLOCKS * LANES;
        for before in (0..130).chain(together - 10..together + 4) {
            for filler in ["x", " ", "!", "A", "\n", "7"] {
                assert_same_words(&format!("{}{tail}{tail}y", filler.repeat(before)));
            }
        }
    }
}

#[test]
fn every_family_has_tables_for_masks() {
    for (family, splitter, _) in splitters() {
        assert!(splitter.has_masks(), "{}", family.name);
        assert!(
            splitter.may_cut('a', ' ') || splitter.may_cut(' ', 'a') || splitter.may_cut('\n', 'a'),
            "{}",
            family.name
        );
    }
}

#[test]
fn unusual_pre_tokenizers_are_refused_with_a_reason() {
    let refused = |step: serde_json::Value| {
        let value = serde_json::json!({"type": "Sequence", "pretokenizers": [step, {"type": "ByteLevel", "use_regex": false, "add_prefix_space": false}]});
        Steps::read(&value, &byte_characters()).and_then(Splitter::new).err()
    };
    let split = |regex: &str| serde_json::json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    for regex in [
        r"(?<=a)b",
        r"a(?!bc)",
        r"(a)\1",
        r"\bword",
        r"\w+",
        "^a",
        r"(?x) a",
        "[[:alpha:]]+",
        "(ab)++",
        "a*",
        "(",
        "a)",
        "[a",
        r"\h",
        "a{1000}",
        "(?i)a",
    ] {
        assert!(refused(split(regex)).is_some(), "{regex}");
    }
    for regex in [
        r"(a+)+$",
        r"\p{Han}+|\s+",
        "a{2,}b?",
        r"(?:a|b(?=c))+?d",
        r"[\p{L}&&[^\p{Han}]]+",
        r"\s++$",
        "a(?!b)|.",
    ] {
        assert_eq!(refused(split(regex)), None, "{regex}");
    }
    let removing =
        serde_json::json!({"type": "Split", "pattern": {"Regex": r"\s+"}, "behavior": "Removed", "invert": false});
    assert_eq!(refused(removing).as_deref(), Some("its pre_tokenizer removes text"));
    assert_eq!(
        refused(serde_json::json!({"type": "Whitespace"})).as_deref(),
        Some("its pre_tokenizer has the step Whitespace")
    );
}
