"""Pipes and stdin, which can be read only once."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import types

import pytest

from tttkit.data.prepare import prepare_dataset
from tttkit.data.sources import parse_source
from tttkit.data.stream import Stream
from tttkit.errors import DataError, UsageError

from .conftest import TEXTS, read, reader

LINES = "".join(f"line {number} of the text\n" for number in range(40))
RECORDS = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)


@pytest.fixture
def stdin(monkeypatch):
    """Put bytes into stdin."""
    return lambda content: monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content)))


@pytest.fixture
def pipe(tmp_path):
    """Make a named pipe into which a thread writes once."""

    def make(name, content):
        os.mkfifo(tmp_path / name)
        threading.Thread(target=(tmp_path / name).write_bytes, args=[content], daemon=True).start()
        return str(tmp_path / name)

    return make


def test_a_stream_is_read_once_unless_it_is_kept(stdin):
    stdin(b"text")
    stream = Stream(None)
    assert stream.head == b"text"
    with stream.open() as file:
        assert file.read() == b"text"
    with pytest.raises(UsageError, match="stdin was read already"):
        stream.open()
    stdin(b"text")
    kept = Stream(None)
    assert kept.head == b"text"
    kept.keep()
    for _ in range(3):
        with kept.open() as file:
            assert file.read() == b"text"


def test_a_closed_stdin_is_named(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="stdin is closed"):
        read("-")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("documents", ["line", "file"])
@pytest.mark.parametrize("source", ["-", "pipe"])
def test_a_tokenizer_is_trained_on_a_stream(tmp_path, stdin, pipe, source, documents):
    """Training reads the text before it is encoded."""
    (tmp_path / "text.txt").write_text(LINES)
    name = pipe("pipe", LINES.encode()) if source == "pipe" else source
    stdin(LINES.encode())
    made = [
        prepare_dataset([text], tmp_path / f"out{number}", "bpe:300", validation_fraction=0.2, documents=documents)
        for number, text in enumerate([str(tmp_path / "text.txt"), name])
    ]
    assert made[0].fingerprint == made[1].fingerprint


@pytest.mark.timeout(60)
def test_a_stream_for_validation_is_read_once(tmp_path, stdin):
    (tmp_path / "text.txt").write_text(LINES)
    stdin(b"other text\n")
    manifest = prepare_dataset([str(tmp_path / "text.txt")], tmp_path / "out", "bpe:300", validation=["-"])
    assert manifest.splits["validation"].num_bytes == len("other text\n")


def test_records_in_a_stream_need_a_field_or_a_format(tmp_path, tokenizer_json, stdin, pipe):
    def prepare(**options):
        stdin(RECORDS.encode())
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        return prepare_dataset(["-"], out, str(tokenizer_json), validation_fraction=0.4, **options)

    with pytest.raises(UsageError, match="stdin holds JSON records") as caught:
        prepare()
    assert "--text-field" in caught.value.hint
    expected = sum(len(text.encode()) for text in TEXTS)
    for options in ({"text_field": "text"}, {"source_format": "jsonl"}, {"source_format": "json"}):
        assert sum(split.num_bytes for split in prepare(**options).splits.values()) == expected
    assert sum(split.num_bytes for split in prepare(source_format="text").splits.values()) == len(RECORDS.encode())
    assert read(pipe("records.jsonl", RECORDS.encode())) == TEXTS


def test_parquet_can_come_through_a_pipe(tmp_path, pipe):
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": TEXTS}), buffer)
    source, rules = parse_source(pipe("a.parquet", buffer.getvalue())), reader()
    source.check(rules)
    assert list(source.documents(rules, "train")) == TEXTS


def test_a_stream_that_is_not_text_is_refused(tmp_path, tokenizer_json, stdin):
    stdin(b"\x1f\x8b\x08\0 packed")
    with pytest.raises(DataError, match="stdin is gzip data; expected UTF-8 text"):
        prepare_dataset(["-"], tmp_path / "out", str(tokenizer_json))
    assert not (tmp_path / "out").exists()
