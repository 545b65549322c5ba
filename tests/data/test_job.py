from __future__ import annotations

import dataclasses
import io
import sys
import types
from pathlib import Path

import pytest

from tttkit.data.job import Job
from tttkit.data.reader import Reader, Reading
from tttkit.data.sources import parse_source
from tttkit.data.tokenizer import load_tokenizer
from tttkit.errors import UsageError


def make_job(sources, validation=None, **values):
    """Return a job for sources given as texts."""
    return Job(
        sources=[parse_source(str(source)) for source in sources],
        validation=None if validation is None else [parse_source(str(source)) for source in validation],
        **{
            "out": Path("out"), "tokenizer": "gpt2", "validation_fraction": 0.5, "num_threads": 1,
            "reader": Reader(rules=Reading(documents="line")), "shard_tokens": 100, "progress": None, **values,
        },
    )  # fmt: skip


@pytest.fixture
def lines(tmp_path):
    (tmp_path / "lines.txt").write_text("a\nb\nc\nd\n")
    return tmp_path / "lines.txt"


def test_the_request_names_the_sources_and_rules_of_the_data_set(lines):
    request = make_job([lines, "hf:name"], ["stdlib"]).request()
    assert list(request) == [
        "sources", "validation", "tokenizer", "validation_fraction", "documents", "document_pattern", "text_field",
        "bad_utf8", "shard_tokens", "signature",
    ]  # fmt: skip
    assert (request["sources"], request["validation"]) == ([str(lines), "hf:name"], ["stdlib"])
    assert request["validation_fraction"] is None, "sources for validation overrule the fraction"
    assert make_job([lines]).request()["validation_fraction"] == 0.5


def test_the_digest_changes_with_request_and_tokenizer(lines, tokenizer_json):
    loaded = load_tokenizer(str(tokenizer_json))
    digest = make_job([lines]).digest(loaded)
    assert digest == make_job([lines], num_threads=3).digest(loaded), "threads do not change the bytes"
    assert digest != make_job([lines], shard_tokens=99).digest(loaded)
    assert digest != make_job([lines]).digest(dataclasses.replace(loaded, json="{}"))
    lines.write_text("changed\n")
    assert digest != make_job([lines]).digest(loaded)
    assert make_job(["-"]).digest(loaded) is None, "stdin cannot be read twice"


def test_wrong_jobs_are_refused(lines, monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO()))
    with pytest.raises(UsageError, match="no source given"):
        make_job([])
    for fraction in (-0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match="validation_fraction must be at least 0 and below 1"):
            make_job([lines], validation_fraction=fraction)
    with pytest.raises(UsageError, match="stdin is named 2 times, but it can be read only once"):
        make_job([lines, "-"], ["-"])
