"""BPE of characters with byte fallback in Rust gives the same ids as the `tokenizers` library.

`TTTKIT_SLOW_TESTS=1` encodes whole corpora, every code point, a million random strings and 64 MB without a space.
"""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, trainers

from tttkit._rust import Encoder
from tttkit.data import encode_documents

from .conftest import TEXTS
from .test_bpe import BATCH_STRINGS, NUM_STRINGS, PIECES, SLOW, assert_equal, corpora, random_strings

BLANK = "\u2581"
PREPEND = {"type": "Prepend", "prepend": BLANK}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
SPLIT = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def metaspace(scheme, *, split):
    return {"type": "Metaspace", "replacement": BLANK, "prepend_scheme": scheme, "split": split}


STEPS = {
    "Llama 2": ({"type": "Sequence", "normalizers": [PREPEND, REPLACE]}, None),
    "Gemma": (REPLACE, SPLIT),
    "Llama 2, new": (None, metaspace("first", split=False)),
    "always": (None, metaspace("always", split=True)),
    "never": (None, metaspace("never", split=False)),
}
"""Normalizer and pre_tokenizer of each kind."""


def added(content, **properties):
    return {
        "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": True, **properties,
    }  # fmt: skip


ADDED = {
    "as it is": [added("<s>"), added("</s>")],
    "normalized": [added("<s>", normalized=True), added("</s>", normalized=True)],
    "takes white space": [added("<|user|>", rstrip=True), added("</s>", lstrip=True)],
    "white space": [added("\n\n", special=False), added(BLANK * 2, special=False), added("</s>")],
    "whole word": [added("the", single_word=True, normalized=True), added("</s>")],
}
"""Added tokens of several kinds."""
AWKWARD = [
    *PIECES, BLANK, BLANK * 2, "<s>", "</s>", "<|user|>", "the", "\n\n", "<0x0A>", "👩\u200d👩\u200d👧", "देवनागरी",
    "東京", "e\u0301",
]  # fmt: skip


def tokenizer_of(model, steps="Llama 2", tokens="as it is"):
    """Return the tokenizer.json with this model and these steps and added tokens."""
    vocab, new = model["vocab"], len(model["vocab"])
    listed = []
    for token in ADDED[tokens]:
        listed.append({"id": vocab.get(token["content"], new), **token})
        new += token["content"] not in vocab
    normalizer, pre_tokenizer = STEPS[steps]
    content = {"version": "1.0", "added_tokens": listed, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer}
    return json.dumps({**content, "model": model})


def encoders_of(tokenizer_json):
    ours = Encoder(tokenizer_json)
    assert ours.reason is None
    return ours, Tokenizer.from_str(tokenizer_json)


@pytest.fixture(scope="module")
def small():
    """A model of some 600 tokens, trained on `TEXTS`."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    special = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    texts = [BLANK + text.replace(" ", BLANK) for text in TEXTS * 4]
    words = [word for text in texts for word in text.split("\n")]
    tokenizer.train_from_iterator(words, trainers.BpeTrainer(vocab_size=600, special_tokens=special))
    return json.loads(tokenizer.to_str())["model"]


@pytest.fixture(scope="module")
def mistral(shared):
    """The model of Mistral 7B."""
    return json.loads((shared / "data" / "tokenizers" / "mistral-v1.json").read_text())["model"]


@pytest.fixture(scope="module", params=STEPS)
def every_kind(request, small):
    """The small model with each kind of steps."""
    return encoders_of(tokenizer_of(small, request.param))


@pytest.mark.parametrize("tokens", ADDED)
@pytest.mark.parametrize("steps", STEPS)
@given(texts=st.lists(st.lists(st.sampled_from(AWKWARD), max_size=40).map("".join), max_size=20))
@settings(max_examples=500 if SLOW else 10)
def test_added_tokens_in_texts_of_awkward_pieces(small, steps, tokens, texts):
    assert_equal(encoders_of(tokenizer_of(small, steps, tokens)), texts)


@given(texts=st.lists(st.text(max_size=200), max_size=20))
@settings(max_examples=5_000 if SLOW else 30)
def test_any_text(every_kind, texts):
    assert_equal(every_kind, texts)


def compare_random_strings(encoders, count):
    ours, library = encoders
    strings, num_compared = random_strings(count, seed=1), 0
    while batch := list(itertools.islice(strings, BATCH_STRINGS)):
        ids, offsets = ours.encode(batch, 1)
        encodings = library.encode_batch_fast(batch, add_special_tokens=False)
        for text, start, stop, encoding in zip(batch, offsets[:-1], offsets[1:], encodings, strict=True):
            assert ids[start:stop].tolist() == encoding.ids, repr(text)
            num_compared += 1
    assert num_compared == count


def test_random_strings(mistral):
    """Compares exactly 1,000,000 strings in the slow mode, 50,000 otherwise."""
    compare_random_strings(encoders_of(tokenizer_of(mistral)), NUM_STRINGS)


def test_random_strings_of_every_kind(every_kind):
    compare_random_strings(every_kind, NUM_STRINGS // 10)


def test_every_code_point(every_kind):
    codes = [code for code in range(0, 0x110000, 1 if SLOW else 53) if not 0xD800 <= code < 0xE000]
    codes += [] if SLOW else [*range(0x3100), *range(0xFE00, 0x10000)]
    around = [f"a{char}b {char}  {char}{char}s" for char in map(chr, codes)]
    assert_equal(every_kind, ["".join(around[at : at + 500]) for at in range(0, len(around), 500)])


@pytest.mark.parametrize("part", ["x", "ab", " ", "\n", "the", BLANK, "é", "東", "</s>", "\0\r", "a ", " .", "\u0301"])
def test_long_texts_without_a_break(every_kind, part):
    assert_equal(every_kind, [part * (30_000 if SLOW else 3_000)])


@pytest.mark.skipif(not SLOW, reason="takes a minute")
@pytest.mark.parametrize("part", ["x", "acgt", "wgkA9", "的一是"])
def test_64_mb_without_a_space(mistral, part):
    """The library would take hours for it, so the ids are compared for a short text, and by their characters."""
    ours, library = encoders_of(tokenizer_of(mistral))
    assert_equal((ours, library), [part * 10_000])
    lengths = np.zeros(len(mistral["vocab"]), dtype=np.int64)
    for token, id_ in mistral["vocab"].items():
        lengths[id_] = len(token)
    num_parts = (64 << 20) // len(part.encode())
    ids, _ = ours.encode([part * num_parts], 1)
    assert lengths[ids].sum() == 1 + num_parts * len(part)


def test_real_text(mistral, shared):
    encoders = encoders_of(tokenizer_of(mistral))
    for path in corpora(shared):
        text = path.read_bytes().decode("utf-8", errors="replace")
        assert_equal(encoders, [text] if SLOW else [text[:100_000]])


def test_the_published_tokenizer(shared):
    path = shared / "data" / "tokenizers" / "mistral-v1.json"
    ours, library = encoders_of(path.read_text())
    assert (ours.vocab_size, ours.token_id("</s>"), ours.token_id(f"{BLANK}the")) == (32_000, 2, 272)
    assert_equal((ours, library), [*TEXTS, "</s><s> x</s>", " <unk>a", ""])


@pytest.mark.parametrize("steps", STEPS)
def test_special_tokens_as_ordinary_text(small, steps):
    tokenizer_json = tokenizer_of(small, steps)
    library = Tokenizer.from_str(tokenizer_json)
    library.encode_special_tokens = True
    assert_equal((Encoder(tokenizer_json, split_special=True), library), ["a</s> b <s><s>", "</s>", *TEXTS])


def rename(vocab, token):
    vocab[f"{token} no more"] = vocab.pop(token)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: rename(file["model"]["vocab"], "<0xE6>"), "byte token <0xE6>"),
        (lambda file: file["model"].update(byte_fallback=False), ""),
        (lambda file: file["model"].update(ignore_merges=True), "ignores merges"),
        (lambda file: file.update(normalizer={"type": "NFKC"}), "NFKC"),
        (lambda file: file.update(pre_tokenizer={"type": "Whitespace"}), "Whitespace"),
    ],
)
def test_what_is_not_encoded_here_is_encoded_by_the_library_and_the_reason_is_told(small, change, reason):
    content = json.loads(tokenizer_of(small))
    change(content)
    ours, library = Encoder(json.dumps(content)), Tokenizer.from_str(json.dumps(content))
    assert reason in ours.reason
    assert_equal((ours, library), [*TEXTS, "東京 😀\n</s>x", ""])


def test_threads_that_share_a_long_document_give_the_same_ids(shared):
    text = next((shared / "data" / "novels" / "validation").glob("*.txt")).read_text()
    path = shared / "data" / "tokenizers" / "mistral-v1.json"
    one, two = (encode_documents([text * 3, "short"], path, threads=threads) for threads in (1, 2))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])
