//! Read, cut, encode and count one text in blocks of every size, as a preparation does.

use std::io::Write;
use std::path::Path;

use super::Rule;
use super::blocks::{BLOCK_BYTES, Builder};
use super::reader::{Input, Reader};
use super::sink::Tokens;
use crate::bodies;
use crate::bpe::Scratch;
use crate::encode::Encoder;
use crate::sentencepiece_bodies;

const EOS: u32 = 256;

/// A few kilobytes with everything that the edge of a block could split: characters of every length, marks, white space
/// of all kinds, line ends, headings, contractions, added tokens and prefixes of them, numbers, long words, NUL.
fn rich_text() -> String {
    let lines = [
        "\u{feff} \n",
        " = Title = \n",
        "The cat's whiskers, don't they're we'll I'd 'VE ''s 's\r\n",
        "\r\n",
        "naïve café e\u{301}\u{301} 東京は日本の首都。 😀😀 \u{10FFFF}\u{378}\n",
        " = = Part = = \n",
        "½²٣١٢ Ⅷ 12345 1a2b \u{a0}\u{2003}\u{3000}\u{85}\u{2028}x\u{200b}\u{180e}\n",
        "<|endoftext|><|endoftext|> <|end <| <|endoftext|\n",
        "  \t \u{1c}\n",
        " = Second 😀 = \n",
        "a\0b\0\0 \r \r\r mid\rdle\u{feff}\r\r\n",
        " =\n = \n = = \n = not = one\n",
        "!!!---...'''\u{2019}s\u{2019} ((\u{301}))    indented\n\n\n",
    ];
    let mut text = lines.concat();
    for shift in ["", "x", "é", "😀東"] {
        text.push_str(&lines.concat());
        text.push_str(shift);
    }
    for long in ["ab", "the", "!", " ", "\u{3000}", "9", "é", "\r"] {
        text.push_str(&long.repeat(40));
    }
    text.push_str(&lines.concat());
    text.push_str("the end without a line end \r");
    text
}

/// The ids with end-of-text tokens, the number of words of each document, and the number of blocks.
fn prepared(path: &Path, rule: Rule, block_bytes: usize, encoder: &Encoder) -> (Vec<u32>, Vec<u64>, usize) {
    let mut reader = Reader::new(rule, Builder::new(block_bytes, 0.0, [0; 2]));
    reader.add([Input::Path(path.to_owned())]);
    let (mut scratch, mut tokens) = (Scratch::new(4), Tokens::<u32>::default());
    let (mut ids, mut words, mut num_blocks) = (Vec::new(), vec![0], 0);
    while let Some(block) = reader
        .next_block(encoder)
        .expect("readable")
        .or_else(|| reader.last_block())
    {
        let used = std::mem::replace(&mut tokens.block, block);
        reader.recycle(used);
        tokens.fill(encoder, &mut scratch, EOS).expect("any text");
        ids.extend_from_slice(&tokens.ids);
        for (piece, count) in tokens.block.pieces.iter().zip(&tokens.words) {
            *words.last_mut().expect("at least one") += count;
            words.extend(piece.ends.then_some(0));
        }
        num_blocks += 1;
    }
    (ids, words, num_blocks)
}

fn file_of(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("writable");
    file
}

/// A prefix of the same length precedes the text. So there are two blocks if a block holds half the file or more, and
/// every byte of the text is once at the edge between them.
#[test]
fn blocks_of_every_size_have_the_ids_of_the_whole_text() {
    for family in bodies::FAMILIES {
        let step = if family.name == "GPT-2" { 1 } else { 7 };
        compare_blocks(family.name, &bodies::family_json(family), step);
    }
}

/// The same for tokenizers that put a blank before a document.
#[test]
fn blocks_of_every_size_have_the_ids_of_the_whole_text_with_sentencepiece() {
    let steps = sentencepiece_bodies::steps();
    let added = sentencepiece_bodies::added_tokens();
    for (steps, added) in [(&steps[0], &added[1]), (&steps[6], &added[2])] {
        let json = sentencepiece_bodies::tokenizer_json(steps, added, &sentencepiece_bodies::model());
        compare_blocks("SentencePiece", &json, 3);
    }
}

fn compare_blocks(name: &str, json: &str, step: usize) {
    let text = rich_text();
    let content: String = " the".chars().cycle().take(text.len()).chain(text.chars()).collect();
    let file = file_of(&content);
    assert!(text.len() > 2_000 && content.len() == 2 * text.len());
    let words = vec![content.split_whitespace().count() as u64, 0];
    let encoder = Encoder::new(json).expect("valid");
    let library: tokenizers::Tokenizer = json.parse().expect("valid");
    assert_eq!(encoder.reason(), None, "{name}");
    let mut expected = library
        .encode_fast(&*content, false)
        .expect("any text")
        .get_ids()
        .to_vec();
    expected.push(EOS);
    for block_bytes in (1..=content.len()).step_by(step) {
        let (ids, counted, _) = prepared(file.path(), Rule::File, block_bytes, &encoder);
        assert!(ids == expected, "{name}: different ids in blocks of {block_bytes}");
        assert_eq!(counted, words, "{name}: words in blocks of {block_bytes}");
    }
}

#[test]
fn blocks_of_every_size_have_the_documents_of_the_whole_text() {
    let encoder = Encoder::new(&bodies::tokenizer_json()).expect("valid");
    let text = rich_text();
    let file = file_of(&text);
    for (rule, num_documents) in [(Rule::Line, 84), (Rule::BlankLine, 19), (Rule::Wikitext, 12)] {
        let (ids, words, _) = prepared(file.path(), rule, BLOCK_BYTES, &encoder);
        assert_eq!(words.len() - 1, num_documents, "{rule:?}");
        for block_bytes in 1..=text.len() {
            let (other_ids, other_words, _) = prepared(file.path(), rule, block_bytes, &encoder);
            assert!(
                other_ids == ids && other_words == words,
                "{rule:?} in blocks of {block_bytes}"
            );
        }
    }
}
