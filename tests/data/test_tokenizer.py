from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from tttkit.data import encode_documents
from tttkit.data.tokenizer import load_decoder, load_tokenizer
from tttkit.errors import DataError, UsageError

from .conftest import TEXTS


def standard_library(num_files: int) -> list[str]:
    return [path.read_text() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:num_files]]


def assert_equal_to_reference(texts: list[str], path: Path) -> None:
    ids, offsets = encode_documents(texts, tokenizer=path)
    expected = [item.ids for item in Tokenizer.from_file(str(path)).encode_batch(texts, add_special_tokens=False)]
    assert offsets.dtype == np.uint64
    assert offsets.tolist() == np.cumsum([0, *map(len, expected)]).tolist()
    assert ids.tolist() == [id_ for one in expected for id_ in one]


def test_ids_equal_the_tokenizers_library(tokenizer_json):
    texts = [*standard_library(40), *TEXTS, "", "<|endoftext|>inside<|endoftext|>", "x" * 5000]
    assert_equal_to_reference(texts, tokenizer_json)


def test_ids_equal_the_tokenizers_library_with_gpt2(shared):
    novel = next((shared / "data" / "novels" / "validation").glob("*.txt")).read_text()
    pieces = [novel[start : start + 20_000] for start in range(0, 400_000, 20_000)]
    assert_equal_to_reference(pieces, shared / "data" / "gpt2" / "tokenizer.json")


def test_vocab_and_merges_give_the_same_tokenizer(shared):
    folder = shared / "data" / "gpt2"
    ids, _ = encode_documents(TEXTS, tokenizer=folder / "tokenizer.json")
    assert ids.dtype == np.uint16
    assert encode_documents(TEXTS, tokenizer=folder)[0].tolist() == ids.tolist()


def test_vocab_and_merges_without_a_tokenizer_json(tmp_path, tokenizer_json):
    model = json.loads(tokenizer_json.read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    ids, _ = encode_documents(TEXTS, tokenizer=tmp_path)
    assert ids.tolist() == encode_documents(TEXTS, tokenizer=tokenizer_json)[0].tolist()


def test_threads_change_nothing(tokenizer_json):
    texts = standard_library(10)
    one, two = (encode_documents(texts, tokenizer=tokenizer_json, threads=count)[0] for count in (1, 2))
    assert np.array_equal(one, two)


def test_decoder_gives_the_text_back(tokenizer_json):
    decode = load_decoder(tokenizer_json)
    for text in TEXTS:
        assert decode(encode_documents([text], tokenizer=tokenizer_json)[0].tolist()) == text


def test_trained_tokenizer_is_the_same_every_time():
    first, second = (load_tokenizer("bpe:300", lambda: iter(TEXTS)) for _ in range(2))
    assert first == second
    assert first.vocab_size == 300


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("nonsense", UsageError, "unknown tokenizer `nonsense`"),
        ("bpe:12", UsageError, "expected bpe:N with N of at least 257"),
        ("bpe:many", UsageError, "expected bpe:N"),
        ("{tmp}", UsageError, "no vocab.json in tokenizer directory"),
        ("{tmp}/broken.json", DataError, "broken.json is not a tokenizer.json"),
        ("{tmp}/no_eos.json", DataError, "has no end-of-text token"),
    ],
)
def test_unusable_tokenizers_are_refused(tmp_path, spec, error, message):
    (tmp_path / "broken.json").write_text("{")
    Tokenizer.from_str(
        json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}})
    ).save(str(tmp_path / "no_eos.json"))
    with pytest.raises(error, match=message):
        load_tokenizer(spec.format(tmp=tmp_path), lambda: iter(TEXTS))


def test_one_string_is_not_a_list_of_texts(tokenizer_json):
    with pytest.raises(TypeError, match="texts must be a sequence of strings"):
        encode_documents("text", tokenizer=tokenizer_json)
