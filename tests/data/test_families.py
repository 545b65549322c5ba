"""Every family of byte-level tokenizers is encoded in Rust, with the same ids as the `tokenizers` library.

`TTTKIT_SLOW_TESTS=1` encodes a million random strings, every code point and whole corpora with each family.
"""

from __future__ import annotations

import itertools
import json
import random

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from tttkit._rust import Encoder
from tttkit.data import prepare_dataset

from .families import END, FAMILIES, family_json
from .test_bpe import BATCH_STRINGS, NUM_STRINGS, SLOW, assert_equal, corpora, random_strings, standard_library_texts

REAL = ("cl100k", "o200k", "qwen2", "tekken")
PIECES = [
    *"aZsSlLtTeérRvVéÉǅªʼn東の5½٣!-_/'’\0😀\u0301\u0327\u0378\x1c\u180e\u200b \n\r\t\xa0\u3000\u2028\x85\u200d", "  ",
    "    ", "'s", "'re", "'ll", "'T", "'vE", "\r\n", "\n\n", " word", "CamelCase", "123", "12345", "//", "\n/", END,
    "ſ", "'ſ", "。", "“", "”", "…", "²", "３", "ﬁ", "<|pad|>", " <|pad|>\n", "e\u0301", "\u1100\u1161", "가", "Å",
    "\u0f35", "👩\u200d💻", "🇩🇪",
]  # fmt: skip


@pytest.fixture(scope="module", params=list(FAMILIES))
def encoders(request):
    """Our encoder and the library's encoder of a family."""
    text = family_json(request.param)
    return Encoder(text), Tokenizer.from_str(text)


@pytest.fixture(scope="module", params=REAL)
def real_encoders(request, shared):
    """The same with a vocabulary that is in use."""
    text = (shared / "data" / "tokenizers" / f"{request.param}.json").read_text()
    return Encoder(text), Tokenizer.from_str(text)


def assert_equal_in_batches(encoders, strings):
    ours, library = encoders
    strings, num_compared = iter(strings), 0
    while batch := list(itertools.islice(strings, BATCH_STRINGS)):
        ids, offsets = ours.encode(batch, 1)
        encodings = library.encode_batch_fast(batch, add_special_tokens=False)
        for text, start, stop, encoding in zip(batch, offsets[:-1], offsets[1:], encodings, strict=True):
            assert ids[start:stop].tolist() == encoding.ids, repr(text)
            num_compared += 1
    return num_compared


def awkward_strings(count, seed=0):
    generator = random.Random(seed)
    for number in range(count):
        longest = 300 if number % 50 == 0 else 40
        yield "".join(generator.choices(PIECES, k=generator.randint(1, longest)))


def test_every_family_is_encoded_in_rust(encoders):
    assert encoders[0].is_byte_level_bpe
    assert encoders[0].reason is None


def test_random_strings(encoders):
    strings = itertools.chain(random_strings(NUM_STRINGS // 2), awkward_strings(NUM_STRINGS // 2))
    assert assert_equal_in_batches(encoders, strings) == NUM_STRINGS


def test_random_strings_with_vocabularies_that_are_in_use(real_encoders):
    assert_equal_in_batches(real_encoders, itertools.chain(random_strings(10_000, 1), awkward_strings(10_000, 1)))


def code_points():
    codes = [code for code in range(0, 0x110000, 1 if SLOW else 211) if not 0xD800 <= code < 0xE000]
    codes += [] if SLOW else [*range(0x600), *range(0x2000, 0x2100), *range(0x3000, 0x3100), *range(0xFF00, 0x10000)]
    return [f"a{char}b 1{char}2 {char}  {char}{char}'s" for char in map(chr, codes)]


def test_every_code_point_between_letters_numbers_and_white_space(encoders):
    around = code_points()
    assert_equal(encoders, ["".join(around[at : at + 500]) for at in range(0, len(around), 500)])


@pytest.mark.parametrize(
    "text", ["x", "ab", " ", "\n", "\u3000", "!", "9", "東", "。", "é", "\r", "A", "aB", "'s", "\n "]
)
def test_long_runs(encoders, text):
    for length in (63, 64, 65, 3_000):
        assert_equal(encoders, [text * length, f"{text * length}x", f"x {text * length} 1", f"'{text * length}!"])


def test_real_text(encoders):
    assert_equal(encoders, standard_library_texts(20))


def test_corpora_with_vocabularies_that_are_in_use(real_encoders, shared):
    for path in corpora(shared):
        text = path.read_bytes().decode("utf-8", errors="replace")
        assert_equal(real_encoders, [text] if SLOW else [text[:100_000]])


def test_every_place_of_a_cut(encoders):
    """The parts of a long document are encoded on several threads."""
    text = "".join(awkward_strings(4_000, 2)).replace(END, "").replace("<|pad|>", "") + " the end" * 40_000
    one, two = (encoders[0].encode([text, "short"], threads) for threads in (1, 2))
    assert np.array_equal(one[0], two[0])
    assert_equal(encoders, [text])


@pytest.mark.parametrize("name", ["Qwen 2", "DeepSeek 3", "GPT-2 with a space before"])
@pytest.mark.parametrize("split_special", [False, True])
def test_added_tokens_of_all_kinds(name, split_special):
    library = Tokenizer.from_str(family_json(name))
    library.add_tokens([
        AddedToken("<a>", special=True), AddedToken("<a><b>", special=True, normalized=True),
        AddedToken("b>", special=True),
        AddedToken("new word", normalized=False), AddedToken("é!", normalized=True),
        AddedToken("<｜end▁of｜>", lstrip=True),
        AddedToken("<r>", rstrip=True, normalized=True), AddedToken("<l>", lstrip=True, special=True),
    ])  # fmt: skip
    library.encode_special_tokens = split_special
    ours = Encoder(library.to_str(), split_special=split_special)
    assert ours.reason is None
    pieces = [
        "<a>",
        "<b>",
        "b>",
        "new word",
        " ",
        "  ",
        "\n",
        "e\u0301!",
        "é",
        "!",
        "<｜end▁of｜>",
        "<r>",
        "<l>",
        "x",
        END,
        "<|pad|>",
    ]
    generator = random.Random(3)
    strings = ["".join(generator.choices(pieces, k=generator.randint(1, 12))) for _ in range(3_000)]
    assert_equal_in_batches((ours, library), strings)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"normalizer": {"type": "Lowercase"}}, "its normalizer is Lowercase"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "its pre_tokenizer has the step Whitespace"),
        ({"pre_tokenizer": None}, "it has no pre_tokenizer"),
    ],
)
def test_other_tokenizers_are_encoded_by_the_library_and_the_reason_is_told(change, reason):
    content = json.dumps({**json.loads(family_json("GPT-2")), **change})
    ours = Encoder(content)
    assert ours.reason == f"the tokenizers library encodes because {reason}"
    assert_equal((ours, Tokenizer.from_str(content)), ["The cat sat.", ""])


def test_the_slow_path_is_told_where_data_is_prepared(tmp_path):
    content = {**json.loads(family_json("GPT-2")), "normalizer": {"type": "Lowercase"}}
    for name, changed in (("slow", content), ("fast", json.loads(family_json("GPT-2")))):
        (tmp_path / f"{name}.json").write_text(json.dumps(changed))
        (tmp_path / "text.txt").write_text("The cat sat on the mat. " * 20)
        manifest = prepare_dataset(
            [tmp_path / "text.txt"], tmp_path / name, str(tmp_path / f"{name}.json"), validation_fraction=0
        )
        told = ["the tokenizers library encodes because its normalizer is Lowercase"]
        assert manifest.tokenizer_notes == (told if name == "slow" else [])
