from __future__ import annotations

import json

import datasets
import pytest

from tttkit.data.bpe_training import words_of
from tttkit.data.feeding import count_words
from tttkit.data.patterns import GPT2

from .conftest import is_held_out
from .test_job import make_job

WORDS = ("apple", "banana", "cherry", "damson", "elder", "fig")
SPLITS = {"train": "apple", "validation": "banana"}


def learned(training) -> dict[str, int]:
    pre_tokenizer = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return json.loads(training.finish(400, "<|endoftext|>", json.dumps(pre_tokenizer)))["model"]["vocab"]


@pytest.fixture
def lines(tmp_path):
    (tmp_path / "lines.txt").write_text("".join(f"{word} {word}\n" for word in WORDS))
    (tmp_path / "other.txt").write_text("zebra zebra\n")
    return tmp_path / "lines.txt"


def test_a_tokenizer_learns_from_the_documents_of_the_train_split_only(lines):
    kept = [f"{word} {word}" for index, word in enumerate(WORDS) if not is_held_out(index, 0.5)]
    vocab = learned(count_words(make_job([lines], validation_fraction=0.5), [GPT2]))
    assert vocab == learned(words_of(kept)([GPT2]))
    assert "banana" in vocab
    assert "apple" not in vocab


def test_a_data_set_gives_its_train_split_to_a_tokenizer(tmp_path):
    parts = {name: datasets.Dataset.from_dict({"text": [f"{word} {word}"]}) for name, word in SPLITS.items()}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "parts")
    source = f"hf:{tmp_path / 'parts'}"
    vocab = learned(count_words(make_job([source], [source]), [GPT2]))
    assert {word: word in vocab for word in SPLITS.values()} == {"apple": True, "banana": False}


def test_sources_of_the_validation_split_are_not_read_for_a_tokenizer(lines):
    job = make_job([lines], [lines.parent / "other.txt"])
    vocab = learned(count_words(job, [GPT2]))
    assert {"apple", "banana"} <= set(vocab)
    assert "zebra" not in vocab
    assert learned(count_words(make_job([lines], [lines.parent / "missing"]), [GPT2])) == vocab
