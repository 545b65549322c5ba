"""`bpe:N` learns what the trainer of `tokenizers` learns, from text of any size, and with any pattern."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tttkit.data.bpe_training import MAX_VOCAB, words_of
from tttkit.data.patterns import EXPRESSIONS, read_pattern
from tttkit.data.tokenizer import TokenizerOptions, load_tokenizer
from tttkit.errors import DataError, UsageError

from .conftest import TEXTS
from .test_tokenizer import standard_library

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def train(texts, size=400, pattern=None):
    return load_tokenizer(f"bpe:{size}", words_of(texts), TokenizerOptions(pattern=pattern)).json


def trained_by_the_library(texts, size=400, expressions=(EXPRESSIONS["gpt2"],)):
    tokenizer = Tokenizer(models.BPE())
    if list(expressions) == [EXPRESSIONS["gpt2"]]:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        cuts = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in expressions]
        ends = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*cuts, ends])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_a_tokenizer_is_the_one_that_the_library_trains(name):
    texts = [*standard_library(12), *TEXTS, "", "Ünïcode ÀB ħ 東京 ١٢٣ 1234567 it's IT'S\r\n\r\n  x\t\n!\n/y"]
    assert train(texts, 700, name) == trained_by_the_library(texts, 700, [EXPRESSIONS[name]])


def test_a_document_of_many_blocks_has_the_words_of_the_whole_text():
    text = "".join(standard_library(60))
    assert len(text) > 1 << 20
    assert train([text], 600) == trained_by_the_library([text], 600)


@given(st.lists(st.text(st.sampled_from("ab Z1!'\n\r\té東\u3000"), max_size=60), max_size=20))
@settings(max_examples=40, deadline=None)
def test_any_text_trains_the_same_tokenizer(texts):
    assert train(texts, 300) == trained_by_the_library(texts, 300)


def test_the_number_of_threads_does_not_change_the_tokenizer(tmp_path):
    from tttkit.data.feeding import count_words

    from .test_job import make_job

    (tmp_path / "text.txt").write_text("".join(standard_library(60)))
    made = []
    for threads in (1, 2, 5):
        job = make_job([tmp_path / "text.txt"], num_threads=threads, validation_fraction=0.3)
        made.append(load_tokenizer("bpe:500", lambda expressions, job=job: count_words(job, expressions)).json)
    assert made[0] == made[1] == made[2]


def test_a_pattern_is_taken_from_a_file_with_an_expression_or_a_tokenizer(tmp_path):
    (tmp_path / "words.txt").write_text(EXPRESSIONS["qwen"] + "\n")
    assert train(TEXTS, pattern=str(tmp_path / "words.txt")) == train(TEXTS, pattern="qwen")
    (tmp_path / "tokenizer.json").write_text(train(TEXTS, pattern="o200k"))
    assert train(TEXTS, pattern=str(tmp_path / "tokenizer.json")) == train(TEXTS, pattern="o200k")
    digits, words = r"\p{N}{1,3}", r"\s?\p{L}+|\s+"
    cuts = [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        for expression in (digits, words)
    ]
    section = {"type": "Sequence", "pretokenizers": [*cuts, BYTE_LEVEL]}
    (tmp_path / "two.json").write_text(json.dumps({"pre_tokenizer": section}))
    text = ["abc12345 def", *TEXTS]
    assert train(text, pattern=str(tmp_path / "two.json")) == trained_by_the_library(text, expressions=[digits, words])
    section = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, {
        **BYTE_LEVEL, "use_regex": True}]}  # fmt: skip
    (tmp_path / "digits.json").write_text(json.dumps({"pre_tokenizer": section}))
    assert read_pattern(str(tmp_path / "digits.json")).expressions == (r"\p{N}", EXPRESSIONS["gpt2"])


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, UsageError, "unknown pattern `.*words`"),
        ("", DataError, "holds no regular expression"),
        ("(", DataError, r"`\(` is not a regular expression"),
        ("{}", DataError, "no pattern can be taken from .*: it has no pre_tokenizer"),
        ("{", DataError, "no pattern can be taken from"),
        ('{"pre_tokenizer": {"type": "Whitespace"}}', DataError, "it ends with Whitespace"),
        (
            json.dumps({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Punctuation"}, BYTE_LEVEL]}}),
            DataError,
            "its step Punctuation is not a Split",
        ),
        ("(a+)+(?=b)b", DataError, "cannot cut the text"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_refused(tmp_path, content, error, message):
    """The last one would backtrack for ever."""
    if content is not None:
        (tmp_path / "words").write_text(content)
    with pytest.raises(error, match=message):
        train(["a" * 100], pattern=str(tmp_path / "words"))


def test_a_pattern_is_only_for_training(tokenizer_json):
    with pytest.raises(UsageError, match=r"a pattern is for bpe:N, but the tokenizer .* has its own"):
        load_tokenizer(str(tokenizer_json), options=TokenizerOptions(pattern="qwen"))


def test_a_long_word_counts_as_words_of_256_bytes():
    generator = random.Random(1)
    text = "".join(generator.choice("ACGT") for _ in range(30_000))
    parts = [text[at : at + 256] for at in range(0, len(text), 256)]
    assert train([text], 300) == train(parts, 300)
    assert train([text[:256]], 300) == trained_by_the_library([text[:256]], 300)


def test_a_trained_tokenizer_ends_documents_with_the_token_that_is_asked_for():
    loaded = load_tokenizer("bpe:300", words_of(TEXTS), TokenizerOptions(eos="<end>"))
    assert (loaded.eos_id, loaded.encoder.token_id("<end>")) == (0, 0)
    assert loaded.encoder.special_tokens == [("<end>", 0)]


@pytest.mark.parametrize("size", ["12", "256", "many", "", "-300", "٣٠٠", str(MAX_VOCAB + 1), "9" * 5000])
def test_a_vocabulary_that_cannot_be_trained_is_refused(size):
    with pytest.raises(UsageError, match="expected bpe:N with N of at least 257 and at most 1,048,576"):
        train(TEXTS, size)
