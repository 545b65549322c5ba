"""Files are cut into runs that can be read without each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttkit.data import runs
from tttkit.data.reader import Reading
from tttkit.data.runs import cut_runs
from tttkit.data.sources import parse_source

from .conftest import reader


def cut(sources, limit, monkeypatch, **rules):
    monkeypatch.setattr(runs, "RUN_BYTES", limit)
    return cut_runs([parse_source(str(source)) for source in sources], Reading(**rules))


def names(run):
    return [Path(path).name for part in run for path in part.paths]


@pytest.fixture
def mixed(tmp_path):
    """Files of 10 bytes or more: texts, then two files of records, and one after a text."""
    for name in ("a.txt", "b.txt", "e.txt"):
        (tmp_path / name).write_text("x" * 10)
    for name in ("c.jsonl", "d.jsonl", "f.jsonl"):
        (tmp_path / name).write_text('{"text": "x"}\n')
    return tmp_path


def test_a_run_ends_when_it_is_large_enough_and_no_file_is_cut(mixed, monkeypatch):
    whole = ["a.txt", "b.txt", "c.jsonl", "d.jsonl", "e.txt", "f.jsonl"]
    assert [names(run) for run in cut([mixed], 1, monkeypatch)] == [[name] for name in whole]
    assert [names(run) for run in cut([mixed], 20, monkeypatch)] == [whole[:2], whole[2:4], whole[4:]]
    assert [names(run) for run in cut([mixed], 1 << 20, monkeypatch)] == [whole]


@pytest.mark.parametrize("rules", [{"documents": "wikitext"}, {"document_pattern": "^x"}])
def test_files_of_records_that_are_one_list_stay_together(mixed, monkeypatch, rules):
    cuts = [["a.txt"], ["b.txt"], ["c.jsonl", "d.jsonl"], ["e.txt"], ["f.jsonl"]]
    assert [names(run) for run in cut([mixed], 1, monkeypatch, **rules)] == cuts
    # each source has its own list
    apart = cut([mixed / "c.jsonl", mixed / "d.jsonl"], 1, monkeypatch, **rules)
    assert [names(run) for run in apart] == [["c.jsonl"], ["d.jsonl"]]


def test_small_sources_share_a_run_and_modules_of_python_stay_text(mixed, monkeypatch):
    (run,) = cut([mixed / "c.jsonl", mixed / "a.txt"], 1 << 20, monkeypatch)
    assert [part.text for part in run] == [str(mixed / "c.jsonl"), str(mixed / "a.txt")]
    (first, *_) = cut(["stdlib"], 1, monkeypatch, format="jsonl")
    assert first[0].is_text
    assert [item.content for item in first[0].items(Reading(format="jsonl"))] == ["text"]


@given(sizes=st.lists(st.integers(0, 30), max_size=12), limit=st.integers(1, 60))
def test_runs_have_the_documents_of_the_sources(tmp_path_factory, sizes, limit):
    root = tmp_path_factory.mktemp("runs")
    for index, size in enumerate(sizes):
        (root / f"{index:02d}.txt").write_text("a\n" * size)
    sources = [str(path) for path in sorted(root.iterdir())]
    with pytest.MonkeyPatch.context() as patch:
        found = cut(sources, limit, patch, documents="line")
    rules = reader(documents="line")
    documents = [text for run in found for part in run for text in part.documents(rules, "train")]
    assert documents == ["a"] * sum(sizes)
    assert [Path(name).name for run in found for name in names(run)] == [Path(source).name for source in sources]
