//! Find where the words of the GPT-2 pattern start: one bit per byte of the text, 64 bytes at a time.
//!
//! `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
//!
//! In terms of the classes of neighboring characters, a word starts
//! * at a character that is not white space, if the character before is of another class and not a plain space;
//! * at white space, if the character before is not white space, or if it is the last of a run and something follows;
//! * after a contraction, but not after the apostrophe in it. The apostrophe itself must start a word.
//!
//! All bytes of a character have its class, so shifting a mask by one compares neighbors. Characters of several bytes
//! are classified one by one. White space of several bytes is rare, and corrected after the shifts.

use super::classes::{Class, Classes};
use super::masks::{self, Kind, LANES, Masks, Simd};

/// Set bit i % 64 of entry i / 64 of `starts` for every word that starts at byte i of `text`.
pub fn find_starts(text: &str, classes: &Classes, simd: Simd, starts: &mut Vec<u64>) {
    starts.clear();
    match simd.kind() {
        // SAFETY: a `Simd` of this kind only exists if the processor has the instructions.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { with_avx512(text, classes, starts) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { with_avx2(text, classes, starts) },
        Kind::Scalar => find(text, classes, starts, masks::scalar),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,bmi1,bmi2,lzcnt,popcnt")]
fn with_avx512(text: &str, classes: &Classes, starts: &mut Vec<u64>) {
    find(text, classes, starts, |bytes| masks::avx512(bytes));
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn with_avx2(text: &str, classes: &Classes, starts: &mut Vec<u64>) {
    find(text, classes, starts, |bytes| masks::avx2(bytes));
}

#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
fn find(text: &str, classes: &Classes, starts: &mut Vec<u64>, masks_of: impl Fn(&[u8; LANES]) -> Masks) {
    let (chunks, rest) = text.as_bytes().as_chunks::<LANES>();
    let mut scan = Scan::new(text, classes);
    starts.reserve(chunks.len() + 1);
    for (index, bytes) in chunks.iter().enumerate() {
        let next = scan.classify(index * LANES, masks_of(bytes), u64::MAX);
        scan.step(next, starts);
    }
    let mut last = [0; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let valid = (1 << rest.len()) - 1;
    let next = scan.classify(chunks.len() * LANES, masks_of(&last), valid);
    scan.step(next, starts);
    scan.step(Chunk::default(), starts);
    starts.truncate(text.len().div_ceil(LANES));
}

/// The classes of 64 bytes, including characters of several bytes.
#[derive(Clone, Copy, Default)]
struct Chunk {
    letters: u64,
    numbers: u64,
    others: u64,
    spaces: u64,
    blanks: u64,
    apostrophes: u64,
    /// First bytes of white space of several bytes.
    wide_spaces: u64,
}

impl Chunk {
    fn no_spaces(&self) -> u64 {
        self.letters | self.numbers | self.others
    }
}

struct Scan<'a> {
    text: &'a str,
    classes: &'a Classes,
    /// The chunk whose starts come next. It waits until the chunk after it is classified.
    current: Option<Chunk>,
    position: usize,
    /// Classes of the bytes of a character that continues in the next chunk.
    spill: [u64; 4],
    /// Bit 0 of each mask is the class of the byte before the current chunk.
    before: Chunk,
    /// Starts in the current chunk that a contraction or a wide space at the end of the chunk before removes or adds.
    removed: u64,
    added: u64,
    removed_next: u64,
    added_next: u64,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str, classes: &'a Classes) -> Self {
        Self {
            text,
            classes,
            current: None,
            position: 0,
            spill: [0; 4],
            before: Chunk::default(),
            removed: 0,
            added: 0,
            removed_next: 0,
            added_next: 0,
        }
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
    fn classify(&mut self, base: usize, ascii: Masks, valid: u64) -> Chunk {
        let mut by_class = [0; 4];
        by_class[Class::Letter as usize] = ascii.letters;
        by_class[Class::Number as usize] = ascii.numbers;
        by_class[Class::Space as usize] = ascii.spaces;
        let mut wide_spaces = 0;
        if ascii.wide != 0 {
            wide_spaces = self.classify_wide(base, ascii.wide, &mut by_class);
        }
        let [_, letters, numbers, spaces] = by_class;
        Chunk {
            letters,
            numbers,
            others: valid & !(letters | numbers | spaces),
            spaces,
            blanks: ascii.blanks,
            apostrophes: ascii.apostrophes,
            wide_spaces,
        }
    }

    /// Classify the characters of several bytes. Returns the first bytes of white space among them.
    fn classify_wide(&mut self, base: usize, wide: u64, by_class: &mut [u64; 4]) -> u64 {
        let (mut rest, mut wide_spaces) = (wide, 0);
        for (mask, spill) in by_class.iter_mut().zip(&mut self.spill) {
            *mask |= *spill;
            rest &= !*spill;
            *spill = 0;
        }
        while rest != 0 {
            let at = rest.trailing_zeros();
            let Some(character) = self.text[base + at as usize..].chars().next() else {
                break;
            };
            let class = self.classes.of_char(character);
            let bits = ((1_u128 << character.len_utf8()) - 1) << at;
            by_class[class as usize] |= bits as u64;
            self.spill[class as usize] |= (bits >> LANES) as u64;
            wide_spaces |= u64::from(class == Class::Space) << at;
            rest &= !(bits as u64);
        }
        wide_spaces
    }

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "compiled once for each set of instructions")]
    fn step(&mut self, next: Chunk, starts: &mut Vec<u64>) {
        let Some(chunk) = self.current.replace(next) else {
            return;
        };
        // White space at the beginning of the text starts a word, as it does after a word.
        let first = u64::from(self.position == 0);
        let no_spaces = chunk.no_spaces();
        let after = |mask: u64, before: u64| mask << 1 | before;
        let same = chunk.letters & after(chunk.letters, self.before.letters)
            | chunk.numbers & after(chunk.numbers, self.before.numbers)
            | chunk.others & after(chunk.others, self.before.others);
        let words = no_spaces & !same & !after(chunk.blanks, self.before.blanks);
        let before_words = no_spaces >> 1 | next.no_spaces() << (LANES - 1);
        let after_words = after(no_spaces, self.before.no_spaces() | first);
        let gaps = chunk.spaces & (after_words | after(chunk.spaces, self.before.spaces) & before_words);
        let mut starting = words | gaps;
        if chunk.wide_spaces != 0 {
            starting = self.correct_wide_spaces(&chunk, &next, starting);
        }
        starting = starting & !self.removed | self.added;
        if chunk.apostrophes & starting != 0 {
            starting = self.contractions(chunk.apostrophes & starting, starting);
        }
        starts.push(starting);
        (self.removed, self.added) = (self.removed_next, self.added_next);
        (self.removed_next, self.added_next) = (0, 0);
        let last = |mask: u64| mask >> (LANES - 1);
        self.before = Chunk {
            letters: last(chunk.letters),
            numbers: last(chunk.numbers),
            others: last(chunk.others),
            spaces: last(chunk.spaces),
            blanks: last(chunk.blanks),
            ..Chunk::default()
        };
        self.position += LANES;
    }
}

impl Scan<'_> {
    /// Correct the starts at white space of several bytes: the same rule, applied to characters.
    fn correct_wide_spaces(&mut self, chunk: &Chunk, next: &Chunk, mut starting: u64) -> u64 {
        let first = u128::from(self.position == 0);
        let words = u128::from(chunk.no_spaces()) | u128::from(next.no_spaces()) << LANES;
        let after_words = words << 1 | u128::from(self.before.no_spaces()) | first;
        let after_spaces = u128::from(chunk.spaces) << 1 | u128::from(self.before.spaces);
        for at in ones(chunk.wide_spaces) {
            let start = self.position + at as usize;
            let len = self.text[start..].chars().next().map_or(1, char::len_utf8);
            let inside = ((1_u128 << len) - 1) << at;
            self.removed_next |= (inside >> LANES) as u64;
            starting &= !(inside as u64);
            let starts = after_words >> at & 1 == 1 || (after_spaces >> at & words >> (at as usize + len)) & 1 == 1;
            starting |= u64::from(starts) << at;
        }
        starting
    }

    /// Move the start after an apostrophe to the end of the contraction that it makes.
    fn contractions(&mut self, apostrophes: u64, mut starting: u64) -> u64 {
        for at in ones(apostrophes) {
            let after = self.position + at as usize + 1;
            let len = contraction(&self.text.as_bytes()[after..]);
            if len == 0 {
                continue;
            }
            let inside = 2_u128 << at;
            starting &= !(inside as u64);
            self.removed_next |= (inside >> LANES) as u64;
            if after + len < self.text.len() {
                let behind = inside << len;
                starting |= behind as u64;
                self.added_next |= (behind >> LANES) as u64;
            }
        }
        starting
    }
}

/// Number of bytes of the contraction after an apostrophe, 0 if there is none.
pub fn contraction(after: &[u8]) -> usize {
    match after {
        [b's' | b't' | b'm' | b'd', ..] => 1,
        [b'r' | b'v', b'e', ..] | [b'l', b'l', ..] => 2,
        _ => 0,
    }
}

/// Positions of the set bits of a mask, lowest first.
pub fn ones(mut mask: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let at = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (at < u64::BITS).then_some(at)
    })
}
