//! Small tokenizers of every kind that `sentencepiece` reads, and the check of any text with them. The fuzz target
//! `sentencepiece`, `tests/hostile.rs` and the tests of the module use them.

#![allow(dead_code, reason = "each user calls some of these")]

use std::sync::OnceLock;

use _rust::bpe::{File, Scratch};
use _rust::sentencepiece::SentencePiece;
use serde_json::{Value, json};

/// What a tokenizer.json does before the merges: its normalizer and its `pre_tokenizer`.
pub fn steps() -> Vec<(Value, Value)> {
    let prepend = json!({"type": "Prepend", "prepend": "▁"});
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let sequence = |steps: &[&Value]| json!({"type": "Sequence", "normalizers": steps});
    let split = json!({
        "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false,
    });
    let mut all = vec![
        (sequence(&[&prepend, &replace]), Value::Null),
        (sequence(&[&replace, &prepend]), split.clone()),
        (replace.clone(), split),
        (Value::Null, Value::Null),
        (
            replace,
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
        ),
        (
            Value::Null,
            json!({"type": "Metaspace", "replacement": "▁", "add_prefix_space": true}),
        ),
    ];
    for scheme in ["first", "always", "never"] {
        for split in [true, false] {
            let step = json!({
                "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split,
            });
            all.push((Value::Null, json!({"type": "Sequence", "pretokenizers": [step]})));
        }
    }
    all
}

/// An added token: its content, and which of `single_word`, `lstrip`, `rstrip` and `normalized` it is.
type Added = (&'static str, [bool; 4]);

/// Lists of added tokens of every kind.
pub fn added_tokens() -> Vec<Vec<Added>> {
    let plain = [false; 4];
    let normalized = [false, false, false, true];
    vec![
        vec![("<s>", plain), ("</s>", plain)],
        vec![("<s>", normalized), ("</s>", normalized), ("<s>a", normalized)],
        vec![("<s>", [false, true, true, false]), ("ab", [true, false, false, false])],
        vec![
            ("<s>", [false, false, true, false]),
            ("\n\n", plain),
            ("▁▁", plain),
            ("a b", normalized),
        ],
        vec![("ab", [true, true, true, true]), ("▁", normalized), ("</s>", plain)],
        vec![],
    ]
}

/// A vocabulary with byte tokens, characters of one to three bytes, and merges that overlap and cross blanks.
pub fn model() -> Value {
    let merges = [
        "▁ a",
        "a b",
        "b a",
        "▁a b",
        "ab ab",
        "a a",
        "aa aa",
        "▁ ▁",
        "▁▁ ▁▁",
        "é é",
        "a é",
        "é ▁",
        "< s",
        "東 京",
        "\n \n",
        "1 a",
        "▁ <",
        "b ▁",
        "ab ▁a",
        "s >",
    ];
    let mut tokens: Vec<String> = ["<unk>".to_owned()].into();
    tokens.extend((0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")));
    tokens.extend(["▁", "a", "b", "<", "s", ">", "/", "1", "\n", "é", "東", "京"].map(str::to_owned));
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let vocab: serde_json::Map<_, _> = tokens.into_iter().zip((0..).map(Value::from)).collect();
    json!({
        "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, "vocab": vocab,
        "merges": merges.map(|merge| merge.split(' ').collect::<Vec<_>>()),
    })
}

/// A tokenizer.json with this model.
pub fn tokenizer_json(steps: &(Value, Value), added: &[Added], model: &Value) -> String {
    let vocab = model["vocab"].as_object().expect("a vocabulary");
    let mut next = vocab.len();
    let mut id_of = |content: &str| {
        vocab.get(content).cloned().unwrap_or_else(|| {
            next += 1;
            Value::from(next - 1)
        })
    };
    let added: Vec<_> = added
        .iter()
        .map(|&(content, [single_word, lstrip, rstrip, normalized])| {
            json!({
                "id": id_of(content), "content": content, "single_word": single_word, "lstrip": lstrip,
                "rstrip": rstrip, "normalized": normalized, "special": content == "<s>",
            })
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": steps.0, "pre_tokenizer": steps.1,
        "post_processor": null, "added_tokens": added, "decoder": null, "model": model,
    })
    .to_string()
}

/// An encoder of this module and that of the library.
pub struct Encoders {
    ours: SentencePiece,
    library: tokenizers::Tokenizer,
    pub json: String,
}

impl Encoders {
    /// Read a tokenizer.json with both.
    pub fn new(json: String) -> Self {
        let file = File::read(&json).expect("a BPE");
        let ours = SentencePiece::new(file).unwrap_or_else(|reason| panic!("{reason}: {json}"));
        let library = json.parse().expect("valid");
        Self { ours, library, json }
    }

    /// All kinds of steps with all kinds of added tokens.
    pub fn all() -> Vec<Self> {
        let model = model();
        let pairs = steps()
            .into_iter()
            .flat_map(|steps| added_tokens().into_iter().map(move |added| (steps.clone(), added)));
        pairs
            .map(|(steps, added)| Self::new(tokenizer_json(&steps, &added, &model)))
            .collect()
    }

    /// Encode special tokens as ordinary text from now on.
    pub fn split_special(&mut self) {
        self.ours.split_special();
        self.library.set_encode_special_tokens(true);
    }

    /// The ids of the library.
    pub fn library_ids(&self, text: &str) -> Vec<u32> {
        let encoding = self.library.encode_fast(text, false).expect("any text");
        encoding.get_ids().to_vec()
    }

    /// Our ids, with this scratch space.
    pub fn encode(&self, text: &str, begins: bool, scratch: &mut Scratch<u32>) -> Vec<u32> {
        let mut ids = Vec::new();
        self.ours.encode(text, begins, scratch, &mut ids);
        ids
    }

    /// Compare the ids of a text, and of both sides of every place where it may be cut.
    pub fn check(&self, text: &str) -> usize {
        let mut scratch = Scratch::new(2);
        let ids = self.encode(text, true, &mut scratch);
        assert_eq!(ids, self.library_ids(text), "{text:?} {}", without_model(&self.json));
        let mut num_cuts = 0;
        for (at, character) in text.char_indices().skip(1) {
            if self.ours.last_cut(&text[..at + character.len_utf8()], at - 1) == Some(at) {
                let mut both = self.encode(&text[..at], true, &mut scratch);
                both.extend(self.encode(&text[at..], false, &mut scratch));
                assert_eq!(both, ids, "cut at {at}: {text:?} {}", without_model(&self.json));
                num_cuts += 1;
            }
        }
        num_cuts
    }
}

fn without_model(json: &str) -> &str {
    json.rsplit_once("\"normalizer\"").map_or(json, |(_, rest)| rest)
}

/// Compare any text with the `tokenizers` crate, as it is and cut at every place, for one of the kinds.
pub fn any_text(bytes: &[u8]) {
    static ENCODERS: OnceLock<Vec<Encoders>> = OnceLock::new();
    let all = ENCODERS.get_or_init(Encoders::all);
    if let Some((&kind, text)) = bytes.split_first() {
        all[usize::from(kind) % all.len()].check(&String::from_utf8_lossy(text));
    }
}

/// A tokenizer.json of one of the kinds, with values of its vocabulary, merges and steps replaced or removed. Each
/// change takes four bytes.
pub fn changed_json(kind: u8, changes: &[u8]) -> String {
    let (steps, added) = (steps(), added_tokens());
    let (steps, added) = (
        &steps[usize::from(kind) % steps.len()],
        &added[usize::from(kind / 16) % added.len()],
    );
    let mut file: Value = serde_json::from_str(&tokenizer_json(steps, added, &model())).expect("valid");
    for change in changes.chunks_exact(4) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]]));
        let value = match change[2] % 8 {
            0 => Value::Null,
            1 => json!(u32::from(change[3])),
            2 => json!(u64::from(change[3]) << 31),
            3 => json!(["a", "b", "<0x0A>", "▁", ""][usize::from(change[3]) % 5]),
            4 => json!(["<s>", "</s>", "NFC", "never"][usize::from(change[3]) % 4]),
            5 => json!(change[3] % 2 == 0),
            6 => {
                let name = ["Prepend", "Replace", "NFC", "Metaspace"][usize::from(change[3]) % 4];
                json!({"type": name, "prepend": "▁", "replacement": "▁"})
            }
            _ => json!(-1),
        };
        let mut leaves = Vec::new();
        leaves_of(&mut file, &mut leaves);
        let count = leaves.len();
        *leaves.swap_remove(place % count) = value;
    }
    file.to_string()
}

/// Every value that holds no others.
fn leaves_of<'a>(value: &'a mut Value, leaves: &mut Vec<&'a mut Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| leaves_of(item, leaves)),
        Value::Object(items) => items.values_mut().for_each(|item| leaves_of(item, leaves)),
        _ => leaves.push(value),
    }
}

/// Read a tokenizer.json: it must be refused with a reason, or give the ids of the library.
pub fn any_json(json: &str) -> bool {
    let Ok(file) = File::read(json) else {
        return false;
    };
    match (SentencePiece::new(file), json.parse()) {
        (Ok(ours), Ok(library)) => {
            Encoders {
                ours,
                library,
                json: json.to_owned(),
            }
            .check("a▁ab b  <s>é\n\nab</s>\t 東京1😀 ba");
            true
        }
        (Ok(_), Err(_)) => true,
        (Err(reason), _) => {
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
            false
        }
    }
}
