//! Every kind of tokenizer.json of this module gives the ids of the `tokenizers` crate, on whole texts and in parts.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::bpe::{File, Scratch};
use crate::sentencepiece_bodies::{Encoders, added_tokens, any_json, changed_json, model, steps, tokenizer_json};

use super::SentencePiece;

const PIECES: &[&str] = &[
    "a", "b", "ab", "é", "東京", "1", " ", "  ", "▁", "▁▁", "\n", "\n\n", "\t", "\u{3000}", "<s>", "</s>", "<", "s>",
    "/", "😀", "\u{301}", "\0", "_", "x",
];

fn text(picks: &[usize]) -> String {
    picks.iter().map(|&pick| PIECES[pick]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn ids_and_cuts_of_every_kind(picks in prop::collection::vec(0..PIECES.len(), 0..24)) {
        thread_local!(static ALL: Vec<Encoders> = Encoders::all());
        ALL.with(|all| all.iter().for_each(|encoders| {
            encoders.check(&text(&picks));
        }));
    }

    #[test]
    fn ids_with_special_tokens_as_text(picks in prop::collection::vec(0..PIECES.len(), 0..24)) {
        thread_local!(static ALL: Vec<Encoders> = {
            let mut all = Encoders::all();
            all.iter_mut().for_each(Encoders::split_special);
            all
        });
        ALL.with(|all| all.iter().for_each(|encoders| {
            encoders.check(&text(&picks));
        }));
    }

    /// For any merges, with ids in any order.
    #[test]
    fn ids_and_cuts_with_any_merges(
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
        seed: u32,
        which in 0..12_usize,
        texts in prop::collection::vec(prop::collection::vec(0..9_usize, 0..60), 8),
    ) {
        let symbols = ["a", "b", "c", "▁", "é", "\n", "東"];
        let mut tokens: Vec<String> = symbols.iter().copied().map(str::to_owned).collect();
        let mut merges = Vec::new();
        for (left, right) in &picks {
            let (left, right) = (left.get(&tokens).clone(), right.get(&tokens).clone());
            let whole = format!("{left}{right}");
            if whole.chars().count() <= 8 && !merges.contains(&[left.clone(), right.clone()]) {
                merges.push([left, right]);
                if !tokens.contains(&whole) {
                    tokens.push(whole);
                }
            }
        }
        tokens.extend((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")));
        let count = tokens.len() as u32;
        tokens.rotate_left((seed % count) as usize);
        let vocab: serde_json::Map<_, _> = tokens.into_iter().zip((0..).map(Value::from)).collect();
        let model = json!({"type": "BPE", "byte_fallback": true, "vocab": vocab, "merges": merges});
        let encoders = Encoders::new(tokenizer_json(&steps()[which], &[], &model));
        for picks in texts {
            let pieces = ["a", "b", "c", " ", "é", "\n", "東", "▁", "x"];
            encoders.check(&picks.into_iter().map(|pick| pieces[pick]).collect::<String>());
        }
    }
}

#[test]
fn every_kind_has_places_to_cut() {
    for encoders in Encoders::all() {
        let num_cuts = encoders.check("a1a東 b1é\n1b東😀x éa1東a");
        assert!(num_cuts > 3, "{num_cuts} cuts: {}", &encoders.json[..300]);
    }
}

#[test]
fn every_code_point() {
    let encoders = &Encoders::all()[0];
    let mut text = String::new();
    for character in '\0'..=char::MAX {
        text.extend([character, 'a', character, ' ']);
        if text.len() > 1 << 16 {
            assert_eq!(
                encoders.encode(&text, true, &mut Scratch::new(4)),
                encoders.library_ids(&text)
            );
            text.clear();
        }
    }
}

#[test]
fn a_text_without_a_place_to_cut() {
    for encoders in Encoders::all().iter().step_by(6) {
        for part in ["a", "ab", "▁", " ", "é", "<s>"] {
            let text = part.repeat(3_000);
            assert_eq!(
                encoders.encode(&text, true, &mut Scratch::new(4)),
                encoders.library_ids(&text),
                "{part}"
            );
        }
    }
}

proptest! {
    #[test]
    fn a_changed_file_is_refused_with_a_reason_or_has_the_ids_of_the_library(
        kind: u8,
        changes in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        any_json(&changed_json(kind, &changes));
    }
}

fn reason(change: impl FnOnce(&mut Value)) -> String {
    let json = tokenizer_json(&steps()[0], &added_tokens()[0], &model());
    let mut value: Value = serde_json::from_str(&json).expect("valid");
    change(&mut value);
    let json = value.to_string();
    let file = File::read(&json).expect("a BPE");
    SentencePiece::new(file).err().unwrap_or_default()
}

#[test]
fn what_cannot_be_encoded_exactly_is_refused_with_its_reason() {
    assert_eq!(reason(|_| ()), "");
    let removed = |token: &'static str| {
        reason(move |file| {
            let vocab = file["model"]["vocab"].as_object_mut().expect("a vocabulary");
            let id = vocab.remove(token).expect("a token");
            vocab.insert("another".to_owned(), id);
        })
    };
    assert!(removed("<0xE2>").contains("lacks the byte token <0xE2>"));
    assert!(removed("<0x41>").contains("lacks the byte token <0x41>"));
    assert_eq!(removed("<0xC0>"), "");
    assert_eq!(removed("<unk>"), "");
    assert!(removed("▁▁").contains("unknown token"));
    assert!(reason(|file| file["model"]["ignore_merges"] = true.into()).contains("ignores merges"));
    assert!(reason(|file| file["model"]["vocab"]["a"] = 5.into()).contains("have the id 5"));
    assert!(reason(|file| file["model"]["vocab"]["a"] = 1_000_000.into()).contains("most ids"));
    assert!(reason(|file| file["normalizer"] = json!({"type": "NFC"})).contains("NFC"));
    assert!(reason(|file| file["pre_tokenizer"] = json!({"type": "Digits"})).contains("Digits"));
    assert!(reason(|file| file["normalizer"]["normalizers"][0]["prepend"] = "x".into()).contains("prepends `x`"));
    assert!(
        reason(|file| {
            file["added_tokens"] = json!([]);
            file["model"]["vocab"]["<0x0A>a"] = 600.into();
            file["model"]["merges"]
                .as_array_mut()
                .expect("merges")
                .push(json!(["<0x0A>", "a"]));
        })
        .contains("stand for bytes")
    );
}

#[test]
fn scratch_is_shared_by_texts_with_and_without_prefix() {
    let encoders = &Encoders::all()[0];
    let mut scratch = Scratch::<u32>::new(4);
    for text in ["ab a", "ab a", " ab", "▁ab", "<s>ab a<s> ab", "ab"] {
        assert_eq!(
            encoders.encode(text, true, &mut scratch),
            encoders.library_ids(text),
            "{text}"
        );
    }
}
