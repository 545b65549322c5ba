//! The GPT-2 pattern without a regular expression: text to words.
//!
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//!
//! Read as rules, tried in this order: an English contraction; a run of one class, with one plain space before it if there is
//! one; white space without its last character when something follows it (that character belongs to what follows, or stands
//! alone); white space.

use super::classes::{Class, Classes};

/// The words of a text, in order; together they are the text.
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

    /// Class and length in bytes of the character at `at`, which is inside the text.
    fn look(&self, at: usize) -> (Class, usize) {
        match self.classes.of_byte(self.text.as_bytes()[at]) {
            Class::Multibyte => self.text[at..].chars().next().map_or((Class::Other, 1), |character| {
                (self.classes.of_char(character), character.len_utf8())
            }),
            class => (class, 1),
        }
    }

    /// End of the run of `class` that goes on at `at`.
    fn run(&self, class: Class, mut at: usize) -> usize {
        let bytes = self.text.as_bytes();
        while at < bytes.len() {
            let found = self.classes.of_byte(bytes[at]);
            if found == class {
                at += 1;
            } else if found == Class::Multibyte {
                let (found, len) = self.look(at);
                if found != class {
                    break;
                }
                at += len;
            } else {
                break;
            }
        }
        at
    }

    /// End of the word of white space that begins at `start`.
    fn space(&self, start: usize) -> usize {
        let (mut last, mut at) = (start, start);
        while at < self.text.len() {
            let (class, len) = self.look(at);
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
        let (mut class, mut len) = self.look(start);
        if bytes[start] == b' ' && start + 1 < bytes.len() {
            let (next, next_len) = self.look(start + 1);
            if next != Class::Space {
                (class, len) = (next, 1 + next_len);
            }
        }
        if class == Class::Space {
            self.space(start)
        } else {
            self.run(class, start + len)
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

/// Bytes of the contraction after an apostrophe, 0 when there is none.
fn contraction(after: &[u8]) -> usize {
    match after {
        [b's' | b't' | b'm' | b'd', ..] => 1,
        [b'r' | b'v', b'e', ..] | [b'l', b'l', ..] => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        let classes = Box::leak(Box::new(Classes::new().expect("tables")));
        Words::new(text, classes).collect()
    }

    #[test]
    fn rules_in_their_order() {
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
