//! Classes of characters in the expression of a pre-tokenizer. `regex-syntax` reads a class; what Oniguruma could
//! understand differently is refused before.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// Properties of characters, in addition to the general categories of one or two letters.
const SCRIPTS: [&str; 9] = [
    "Han", "Hiragana", "Katakana", "Hangul", "Latin", "Cyrillic", "Greek", "Arabic", "Thai",
];

/// The set of the characters up to `last` that satisfy a condition.
pub fn set_of(last: char, condition: impl Fn(char) -> bool) -> ClassUnicode {
    let characters = ('\0'..=last).filter(|&character| condition(character));
    ClassUnicode::new(characters.map(|character| ClassUnicodeRange::new(character, character)))
}

/// Number of bytes of the class in brackets with which the text begins.
pub fn bracketed(text: &str) -> Result<usize, String> {
    let (mut at, mut depth) = (0, 0_u32);
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        if ["[:", "--", "~~"].iter().any(|other| rest.starts_with(other)) {
            return Err("has a class that could be understood in two ways".into());
        }
        at += if next == '\\' { escaped(rest)? } else { next.len_utf8() };
        match next {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok(at);
        }
    }
    Err("has an unmatched `[`".into())
}

/// Number of bytes of the escape with which the text begins.
pub fn escaped(text: &str) -> Result<usize, String> {
    let unknown = || Err("has an escape that could be understood in two ways".to_owned());
    let mut characters = text.chars();
    characters.next();
    match characters.next() {
        Some('r' | 'n' | 't' | 'f' | 'v' | 's' | 'S' | 'd' | 'D') => Ok(2),
        Some('u')
            if text
                .get(2..6)
                .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit())) =>
        {
            Ok(6)
        }
        Some('x') if text[2..].starts_with('{') => text.find('}').map_or_else(unknown, |end| Ok(end + 1)),
        Some('p' | 'P') => {
            let Some((name, _)) = text[2..].strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
                return unknown();
            };
            let category = name.len() <= 2 && name.starts_with(|first: char| "LMNPSZC".contains(first));
            if category || SCRIPTS.contains(&name) {
                Ok(name.len() + 4)
            } else {
                unknown()
            }
        }
        Some(other) if other == ' ' || other.is_ascii_punctuation() && !matches!(other, '<' | '>') => Ok(2),
        _ => unknown(),
    }
}

/// The characters that a class, an escape or one character stands for.
pub fn set_of_text(text: &str, any_case: bool) -> Result<ClassUnicode, String> {
    let parsed = ParserBuilder::new().case_insensitive(any_case).build().parse(text);
    let hir = parsed.map_err(|_| format!("has the class {text}, which is not understood"))?;
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => Ok(class.clone()),
        HirKind::Literal(literal) => {
            let character = std::str::from_utf8(&literal.0)
                .ok()
                .and_then(|text| text.chars().next());
            let character = character.ok_or("has a class of bytes")?;
            Ok(ClassUnicode::new([ClassUnicodeRange::new(character, character)]))
        }
        _ => Err(format!("has the class {text}, which is not understood")),
    }
}
