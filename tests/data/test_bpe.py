"""Byte-level BPE in Rust gives the same ids as the `tokenizers` library.

`TTTKIT_SLOW_TESTS=1` encodes whole corpora, every code point and a million random strings.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sysconfig
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from tttkit._rust import Encoder
from tttkit.data import encode_documents

SLOW = bool(os.environ.get("TTTKIT_SLOW_TESTS"))
END = "<|endoftext|>"
PIECES = [
    *"aZé東5½٣!-'’\0😀\u0301\u0378\x1c\u180e\u200b \n\r\t\xa0\u3000\u2028\x85\u200d", "  ", "    ", "'s", "'re", "'ll",
    "'t", "'VE", "word", "it's", "١٢", "Ⅷ", "ª", "ʼ", "\r\n", END, "<|end", "x" * 40, " " * 70,
]  # fmt: skip
NUM_STRINGS = 1_000_000 if SLOW else 50_000
BATCH_STRINGS = 5_000


@pytest.fixture(scope="module")
def gpt2(shared):
    """Our encoder and the library's encoder, with the vocabulary of GPT-2."""
    path = shared / "data" / "gpt2" / "tokenizer.json"
    return Encoder(path.read_text()), Tokenizer.from_file(str(path))


def assert_equal(encoders, texts):
    ours, library = encoders
    ids, offsets = ours.encode(texts, 1)
    for text, start, stop in zip(texts, offsets[:-1], offsets[1:], strict=True):
        assert ids[start:stop].tolist() == library.encode(text, add_special_tokens=False).ids, repr(text[:200])


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=60).map("".join), max_size=20))
@settings(max_examples=2_000 if SLOW else 60)
def test_texts_of_awkward_pieces(gpt2, texts):
    assert_equal(gpt2, texts)


@given(st.lists(st.text(max_size=200), max_size=20))
@settings(max_examples=50_000 if SLOW else 60)
def test_any_text(gpt2, texts):
    assert_equal(gpt2, texts)


def kinds_of_pieces():
    """Return the pieces of random strings by kind: all characters of the kind, or words."""
    by_category = {}
    for char in map(chr, itertools.chain(range(0xD800), range(0xE000, 0x110000))):
        by_category.setdefault(unicodedata.category(char), []).append(char)
    of = lambda *names: [char for name in names for char in by_category[name]]  # noqa: E731
    spaces = [char for char in of("Zs", "Zl", "Zp", "Cc", "Cf") if char.isspace() or char in "\u180e\u200b\ufeff"]
    endings = ["s", "t", "re", "ve", "m", "ll", "d"]
    contractions = [mark + word for mark in "'’ʼ" for word in (*endings, *map(str.upper, endings), "x", "'")]
    return {
        "white space": spaces,
        "runs of white space": [char * count for char in (" ", "\n", "\t", "\u3000") for count in (2, 3, 63, 64, 65)],
        "contractions": contractions,
        "digits": of("Nd"),
        "numbers": of("Nl", "No"),
        "combining marks": of("Mn", "Mc", "Me"),
        "unassigned": of("Cn"),
        "private and format": of("Co", "Cf", "Cc"),
        "letters": of("Lu", "Ll", "Lt", "Lm", "Lo"),
        "Latin": [*"abcdefghijklmnopqrstuvwxyzABCéßØñ"],
        "punctuation": of("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So"),
        "ASCII": [chr(code) for code in range(128)],
        "lone CR, NUL": ["\r", "\0", "\r\n", "\n\r", "\r\r"],
        "words": ["the", " and", " of", "Ing", "don't", " 1999", "...", " it's", "e.g."],
        "added tokens": [END, END[:-1], END[1:], f"{END} {END}"],
        "long words": ["ab" * 100, "x" * 257, "!" * 90, "9" * 70, "é" * 130, "the" * 90],
    }


def random_strings(count, seed=0):
    """Yield strings of one to twelve pieces of any kinds. Every fourth string has pieces of a single kind."""
    generator = random.Random(seed)
    kinds = kinds_of_pieces()
    names = [name for name in kinds if name != "long words"]
    for number in range(count):
        if number % 100 == 0:
            chosen = [kinds["long words"], *(kinds[generator.choice(names)] for _ in range(generator.randrange(4)))]
            generator.shuffle(chosen)
        elif number % 4 == 0:
            chosen = [kinds[generator.choice(names)]] * generator.randint(1, 12)
        else:
            chosen = [kinds[name] for name in generator.choices(names, k=generator.randint(1, 12))]
        yield "".join(map(generator.choice, chosen))


def test_random_strings(gpt2):
    """Compares exactly 1,000,000 strings in the slow mode, 50,000 otherwise."""
    ours, library = gpt2
    strings, num_compared = random_strings(NUM_STRINGS), 0
    while batch := list(itertools.islice(strings, BATCH_STRINGS)):
        ids, offsets = ours.encode(batch, 1)
        encodings = library.encode_batch_fast(batch, add_special_tokens=False)
        for text, start, stop, encoding in zip(batch, offsets[:-1], offsets[1:], encodings, strict=True):
            assert ids[start:stop].tolist() == encoding.ids, repr(text)
            num_compared += 1
    assert num_compared == NUM_STRINGS


def test_every_code_point_between_letters_numbers_and_white_space(gpt2):
    """The tables follow the library's version of Unicode: unassigned code points, marks, digits of all scripts."""
    codes = [code for code in range(0, 0x110000, 1 if SLOW else 53) if not 0xD800 <= code < 0xE000]
    codes += [] if SLOW else [*range(0x3100), *range(0xFE00, 0x10000)]
    around = [f"a{char}b 1{char}2 {char}  {char}{char}'s" for char in map(chr, codes)]
    assert_equal(gpt2, ["".join(around[at : at + 500]) for at in range(0, len(around), 500)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x" * 100_000,
        "ab" * 30_000,
        " " * 3_000,
        "\n" * 70 + "x",
        "\u3000" * 130 + "x",
        "!" * 2_000,
        "\0\r\0",
        END * 3,
    ],
    ids=lambda text: f"{text[:3]!r}x{len(text)}",
)
def test_long_words(gpt2, text):
    assert_equal(gpt2, [text * (10 if SLOW else 1)])


def corpora(shared):
    data = shared / "data"
    library = Path(sysconfig.get_path("stdlib"))
    if SLOW:
        return [
            *data.glob("novels/*/*.txt"),
            *(path for path in data.glob("wikitext/*") if path.is_file()),
            *library.glob("**/*.py"),
        ]
    return [*sorted(data.glob("novels/validation/*.txt"))[:1], *sorted(library.glob("*.py"))[:40]]


def standard_library_texts(num_files):
    """Return the first files of the Python library."""
    return [path.read_text() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:num_files]]


def test_real_text(gpt2, shared):
    for path in corpora(shared):
        text = path.read_bytes().decode("utf-8", errors="replace")
        assert_equal(gpt2, [text] if SLOW else [text[:300_000]])


def with_added(tokenizer_json, *tokens):
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    tokenizer.add_tokens(list(tokens))
    return Encoder(tokenizer.to_str()), tokenizer


@pytest.mark.parametrize(
    "tokens",
    [
        [AddedToken("<a>", special=True), AddedToken("<a><b>", special=True), AddedToken("b>", special=True)],
        [AddedToken("new word", normalized=False), AddedToken("e", normalized=False)],
        [AddedToken("<pad>", lstrip=True, special=True)],
        [AddedToken("cat", single_word=True)],
        [AddedToken("plain", normalized=True)],
    ],
)
def test_added_tokens_are_found_as_the_library_finds_them(tokenizer_json, tokens):
    texts = ["<a><b>b><a>", "a new word here", "the  <pad> cat concat", f"plain{END}explain", "new  word e", ""]
    assert_equal(with_added(tokenizer_json, *tokens), texts)


@pytest.mark.parametrize("prefix_space", [False, True])
def test_special_tokens_in_the_text_are_split_on_request(tokenizer_json, prefix_space):
    """Both skip the same matches."""
    content = json.loads(tokenizer_json.read_text())
    content["pre_tokenizer"]["add_prefix_space"] = prefix_space
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_tokens([AddedToken("<a>", special=True), AddedToken("a><b", special=False), AddedToken("plain")])
    tokenizer.encode_special_tokens = True
    encoders = Encoder(tokenizer.to_str(), split_special=True), tokenizer
    texts = [END, f"one{END}two <a> three", "<a><b> plain", f"{END}{END}\n", "a><b", ""]
    assert_equal(encoders, texts)
    end = tokenizer.token_to_id(END)
    assert all(end not in encoders[0].encode([text])[0] for text in texts)
    assert end in Encoder(tokenizer.to_str()).encode(texts)[0]


@pytest.mark.parametrize(
    ("section", "values", "fast"),
    [
        (None, {}, True),
        ("pre_tokenizer", {"add_prefix_space": True}, True),
        ("pre_tokenizer", {"use_regex": False}, True),
        ("model", {"ignore_merges": True}, True),
        ("model", {"unk_token": END}, False),
    ],
)
def test_byte_level_tokenizers_are_encoded_in_rust_and_all_others_by_the_library(tokenizer_json, section, values, fast):
    content = json.loads(tokenizer_json.read_text())
    if section:
        content[section].update(values)
    encoders = Encoder(json.dumps(content)), Tokenizer.from_str(json.dumps(content))
    assert encoders[0].is_byte_level_bpe == fast
    assert_equal(encoders, ["The cat sat, didn't it? 1,234\n\n", "", f"x{END}y"])


def test_threads_that_share_a_long_document_give_the_same_ids(shared):
    text = next((shared / "data" / "novels" / "validation").glob("*.txt")).read_text()
    path = shared / "data" / "gpt2" / "tokenizer.json"
    one, two = (encode_documents([text * 3, "short"], path, threads=threads) for threads in (1, 2))
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])
