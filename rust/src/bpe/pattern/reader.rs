//! Read the words of a text one character at a time. This is the definition of the words; `scan` finds the same ones
//! faster.

use super::atoms::END;
use super::automaton::{DEAD, FIRST, Kind};
use super::steps::{Step, Steps};

impl Steps {
    /// Call `found` with the place where each word of the text ends, in order.
    pub fn read_words(&self, text: &[u8], found: &mut impl FnMut(usize)) {
        self.read_pieces(0, text, 0, text.len(), found);
    }

    /// Split `text[start..end]` with the steps from number `depth` on.
    fn read_pieces(&self, depth: usize, text: &[u8], start: usize, end: usize, found: &mut impl FnMut(usize)) {
        let Some(step) = self.steps.get(depth) else {
            found(end);
            return;
        };
        let (mut begin, mut at, mut before) = (start, start, None);
        while at < end {
            let (len, kind) = self.first_match(step, &text[at..end]);
            if before.is_some_and(|before| step.separates(before, kind)) {
                self.read_pieces(depth + 1, text, begin, at, found);
                begin = at;
            }
            (at, before) = (at + len, Some(kind));
        }
        if begin < end {
            self.read_pieces(depth + 1, text, begin, end, found);
        }
    }

    /// The length and kind of the match or gap at the beginning of a text that is not empty.
    fn first_match(&self, step: &Step, text: &[u8]) -> (usize, Kind) {
        let (mut at, mut state, mut last) = (0, FIRST, (text.len(), Kind::Gap));
        while state != DEAD {
            let (atom, len) = match text.get(at) {
                None => (END, 1),
                Some(&byte) if step.on_bytes => (self.byte_atoms[usize::from(byte)], 1),
                Some(_) => self.atom(&text[at..]),
            };
            let read = step.automaton.step(state, atom);
            if let Some(kind) = read.ended {
                last = (at, kind);
            }
            (state, at) = (read.next, at + len);
        }
        last
    }

    /// The atom of the first character of a text, and its number of bytes. A byte that is not part of a character stands
    /// for itself.
    #[inline]
    pub fn atom(&self, text: &[u8]) -> (u8, usize) {
        if text[0] < 0x80 {
            return (self.ascii_atoms[usize::from(text[0])], 1);
        }
        let (character, len) = decode(text);
        (self.atoms.of_char(character), len)
    }
}

/// The first character of valid UTF-8, which is beyond ASCII, and its number of bytes.
#[inline]
pub fn decode(text: &[u8]) -> (char, usize) {
    let rest = |at: usize| u32::from(text.get(at).copied().unwrap_or_default() & 0x3F);
    let first = u32::from(text[0]);
    let (code, len) = match text[0] {
        0..0xE0 => ((first & 0x1F) << 6 | rest(1), 2),
        0xE0..0xF0 => ((first & 0xF) << 12 | rest(1) << 6 | rest(2), 3),
        _ => ((first & 7) << 18 | rest(1) << 12 | rest(2) << 6 | rest(3), 4),
    };
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), len)
}
