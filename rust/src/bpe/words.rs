//! The GPT-2 pattern character by character: the plain implementation that `starts` is tested against.
//!
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//!
//! These are its rules, tried in this order: an English contraction; a run of one class, with one plain space before it
//! if there is one; white space without its last character, if something follows (that character belongs to what
//! follows, or is a word by itself); white space.

use super::classes::{Class, Classes};
use super::starts::contraction;

/// The words of a text in order. Together they are the text.
pub struct Words<'a> {
    text: &'a str,
    classes: &'a Classes,
    position: usize,
}

impl<'a> Words<'a> {
    /// Start at the beginning of `text`.
    pub fn new(text: &'a str, classes: &'a Classes) -> Self {
        Self {
            text,
            classes,
            position: 0,
        }
    }

    /// Class and length in bytes of the character at `at`; None at the end.
    fn look(&self, at: usize) -> Option<(Class, usize)> {
        let character = self.text[at..].chars().next()?;
        Some((self.classes.of_char(character), character.len_utf8()))
    }

    /// End of the run of `class` that continues at `at`.
    fn run(&self, class: Class, mut at: usize) -> usize {
        while let Some((next, len)) = self.look(at)
            && next == class
        {
            at += len;
        }
        at
    }

    /// End of the word of white space that begins at `start`.
    fn space(&self, start: usize) -> usize {
        let (mut last, mut at) = (start, start);
        while let Some((class, len)) = self.look(at) {
            if class != Class::Space {
                return if last == start { at } else { last };
            }
            last = at;
            at += len;
        }
        at
    }

    fn end(&self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        if bytes[start] == b'\'' {
            let len = contraction(&bytes[start + 1..]);
            if len > 0 {
                return start + 1 + len;
            }
        }
        let blank = usize::from(bytes[start] == b' ');
        let after_blank = self.look(start + blank).filter(|(class, _)| *class != Class::Space);
        match after_blank {
            Some((class, len)) => self.run(class, start + blank + len),
            None => self.space(start),
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.position >= self.text.len() {
            return None;
        }
        let start = self.position;
        self.position = self.end(start);
        Some(&self.text[start..self.position])
    }
}

#[cfg(test)]
mod tests {
    use super::super::masks::Simd;
    use super::super::starts::find_starts;
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<&str> {
        let classes = Box::leak(Box::new(Classes::new().expect("tables")));
        Words::new(text, classes).collect()
    }

    fn assert_same_words(text: &str) {
        let classes = Classes::new().expect("tables");
        let mut expected = vec![0; text.len().div_ceil(64)];
        let mut at = 0;
        for word in Words::new(text, &classes) {
            expected[at / 64] |= 1_u64 << (at % 64);
            at += word.len();
        }
        assert_eq!(at, text.len());
        for simd in Simd::available() {
            let mut starts = Vec::new();
            find_starts(text, &classes, simd, &mut starts);
            assert_eq!(starts, expected, "{simd:?} {text:?}");
        }
    }

    const PIECES: &[&str] = &[
        "a", "Z", "é", "東", "5", "½", "٣", " ", "  ", "\n", "\r", "\t", "\u{a0}", "\u{3000}", "\u{2028}", "\u{85}",
        "'", "'s", "'re", "'ll", "'t", "’", "!", "-", "\0", "😀", "\u{301}", "\u{378}", "\u{1c}", "\u{180e}",
        "\u{200b}", "word", "    ",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        #[test]
        fn masks_and_rules_find_the_same_words(picks in prop::collection::vec(0..PIECES.len(), 0..120)) {
            assert_same_words(&picks.into_iter().map(|pick| PIECES[pick]).collect::<String>());
        }

        #[test]
        fn masks_and_rules_find_the_same_words_of_any_text(text in "\\PC{0,200}|[ \\s\\w']{0,200}") {
            assert_same_words(&text);
        }
    }

    #[test]
    fn contractions_and_wide_spaces_at_every_place_of_a_mask() {
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
        ] {
            for before in 0..130 {
                assert_same_words(&format!("{}{tail}", "x".repeat(before)));
                assert_same_words(&format!("{}{tail}{tail}y", " ".repeat(before)));
                assert_same_words(&format!("{}{tail}", "!".repeat(before)));
            }
        }
    }

    #[test]
    fn rules_apply_in_order() {
        assert_eq!(words("I'll don't 's"), ["I", "'ll", " don", "'t", " '", "s"]);
        assert_eq!(words("a  b\n\n c \n"), ["a", " ", " b", "\n\n", " c", " \n"]);
        assert_eq!(words("x=12,345 ½"), ["x", "=", "12", ",", "345", " ½"]);
        assert_eq!(
            words("\u{a0}é\u{3000}\u{3000}z"),
            ["\u{a0}", "é", "\u{3000}", "\u{3000}", "z"]
        );
        assert_eq!(words("''re"), ["''", "re"]);
        assert_eq!(words(" "), [" "]);
        assert!(words("").is_empty());
    }
}
