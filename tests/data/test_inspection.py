"""The figures of a split equal plain counts, for pieces of any size."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tttkit.data import inspection, open_split, prepare_dataset
from tttkit.data.inspection import inspect_split, window_starts


def documents_of(split):
    start = 0
    for end in split.document_ends.tolist():
        yield tuple(split.tokens(start, end).tolist())
        start = end


def make(folder, tokenizer_json, texts, validation=("unlike any",)):
    import json

    for name, lines in (("train", texts), ("validation", validation)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in lines))
    prepare_dataset(
        [str(folder / "train.jsonl")], folder / "data", str(tokenizer_json),
        validation=[str(folder / "validation.jsonl")], shard_tokens=50,
    )  # fmt: skip
    return open_split(folder / "data", "train"), open_split(folder / "data", "validation")


@given(
    texts=st.lists(st.text("ab ", min_size=1, max_size=12), min_size=1, max_size=30),
    validation=st.lists(st.text("ab ", min_size=1, max_size=3), min_size=1, max_size=5),
    piece=st.integers(1, 40),
)
@settings(max_examples=25)
def test_figures_equal_plain_counting(tmp_path_factory, tokenizer_json, texts, validation, piece):
    train, other = make(tmp_path_factory.mktemp("made"), tokenizer_json, texts, validation)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspection, "PIECE_TOKENS", piece)
        result = inspect_split(train, {"validation": other})
    documents = list(documents_of(train))
    assert len(documents) == len(texts)
    copies, lengths = Counter(documents), sorted(map(len, documents))
    assert result.num_documents == len(texts)
    assert result.mean_length == sum(lengths) / len(lengths)
    assert result.num_repeated == len(texts) - len(copies)
    assert result.most_copies == max(copies.values())
    assert result.num_also_in == {"validation": sum(text in validation for text in texts)}
    assert result.num_eos_inside == 0
    assert result.eos_share == len(texts) / sum(lengths)
    quantiles = result.document_tokens
    assert (quantiles["min"], quantiles["max"]) == (lengths[0], lengths[-1])
    assert quantiles["p50"] == lengths[(len(lengths) - 1) // 2]
    rows = result.histogram
    assert sum(count for _, _, count in rows) == len(lengths)
    assert all(count == sum(low <= length <= high for length in lengths) for low, high, count in rows)
    assert rows[0][2] > 0
    assert rows[-1][2] > 0


def test_end_of_text_inside_a_document_is_counted(tmp_path, tokenizer_json):
    train, _ = make(tmp_path, tokenizer_json, ["one<|endoftext|>two", "three"])
    result = inspect_split(train)
    assert (result.num_documents, result.num_eos_inside) == (2, 1)


def test_progress_reaches_the_end(tiny_data):
    split, seen = open_split(tiny_data, "train"), []
    inspect_split(split, progress=seen.append)
    assert seen[-1] == split.num_tokens


def test_sample_windows_are_spread_over_the_split_and_complete(tiny_data):
    split = open_split(tiny_data, "train")
    starts = window_starts(split, 64, 5)
    assert (starts[0], len(starts)) == (0, 5)
    assert all(start % 64 == 0 and start + 64 < split.num_tokens for start in starts)
    assert starts == sorted(set(starts))
    assert starts[-1] + 128 >= split.num_tokens
    assert window_starts(split, 10**6, 3) == [0]
    assert window_starts(split, 64, 0) == []
