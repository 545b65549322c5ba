from __future__ import annotations

import io
import json
import os
import sys
import types
from pathlib import Path

import pytest

from tttkit.data.inputs import CutPieces, Documents, Pieces
from tttkit.data.reader import Reading
from tttkit.data.sources import DataSet, Files, StandardLibrary, StreamSource, parse_source
from tttkit.data.stream import Stream
from tttkit.data.survey import Survey, survey
from tttkit.errors import UsageError

from .conftest import TEXTS, read, reader


def survey_of(*sources) -> Survey:
    return survey((parse_source(str(source)) for source in sources), Reading())


def test_files_directories_and_globs_give_the_same_documents_sorted_bytewise(text_files):
    folder = text_files[0].parent
    (folder / "B.txt").write_text("upper case comes first\n")
    (folder / "ignored.bin").write_bytes(b"\xff")
    expected = [*TEXTS, "upper case comes first\n"]
    assert read(folder) == read(f"{folder}/*.txt") == expected
    assert read(*sorted(folder.glob("*.txt"), key=os.fsencode)) == expected
    assert survey_of(folder).total_bytes == sum(len(text.encode()) for text in expected)


def test_links_to_files_are_kept(text_files):
    folder = text_files[0].parent
    (folder / "link.txt").symlink_to(text_files[0])
    (folder / "dangling.txt").symlink_to(folder / "nothing")
    (folder / b"latin-\xe9.txt".decode(errors="surrogateescape")).write_text("a name that is not UTF-8")
    paths = list(Files(str(folder)).files())
    assert [os.fsencode(path.name) for path in paths] == [
        b"0.txt", b"1.txt", b"2.txt", b"latin-\xe9.txt", b"link.txt",
    ]  # fmt: skip


def test_stdin_is_read_once(monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"a\nb\n")))
    assert read("-", documents="line") == ["a", "b"]
    assert survey_of("-") == Survey(signature=None, total_bytes=None)


def test_the_standard_library_is_that_of_this_interpreter_without_its_tests():
    paths = list(parse_source("stdlib").files())
    assert Path(json.__file__) in paths
    assert not any("test" in path.parts or "site-packages" in path.parts for path in paths)
    assert paths == sorted(paths, key=os.fsencode)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.txt", "no such source: .*missing.txt"),
        ("nothing-*.txt", r"no file matches .*nothing-\*.txt"),
        ("empty", "no text in directory .*empty"),
    ],
)
def test_missing_sources_are_named(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        read(tmp_path / name)


def test_unreadable_file_is_named(tmp_path):
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    with pytest.raises((UsageError, OSError), match=r"loop\.txt"):
        read(tmp_path / "loop.txt")


def test_the_signature_changes_when_a_file_changes(text_files):
    folder = str(text_files[0].parent)
    before = survey_of(folder)
    assert survey_of(folder) == before
    os.utime(text_files[0], ns=(0, 0))
    assert survey_of(folder).signature != before.signature, "the time of a file counts"
    before = survey_of(folder)
    text_files[0].write_text("changed")
    os.utime(text_files[0], ns=(0, 0))
    assert survey_of(folder).signature != before.signature, "the size of a file counts"
    assert survey_of(folder, "hf:name").total_bytes is None
    assert survey_of(folder, "hf:name").signature is not None
    assert survey_of(folder, "-").signature is None
    with pytest.raises(UsageError, match="no such source: nowhere"):
        survey_of("-", "nowhere")
    (text_files[0].parent / "packed.txt.gz").write_bytes(b"x")
    assert survey_of(folder).total_bytes is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-", StreamSource("-", Stream(None))),
        ("stdlib", StandardLibrary("stdlib")),
        ("hf:some/name", DataSet("hf:some/name", "some/name", None)),
        ("hf:some/name:part", DataSet("hf:some/name:part", "some/name", "part")),
        ("texts/*.txt", Files("texts/*.txt")),
        ("./stdlib", Files("./stdlib")),
    ],
)
def test_a_source_is_parsed_from_its_text(text, expected):
    assert parse_source(text) == expected
    assert parse_source(text).text == text


def test_a_data_set_without_a_name_is_refused():
    for text in ("hf:", "hf::part"):
        with pytest.raises(UsageError, match=f"`{text}` names no data set"):
            parse_source(text)


def test_rust_is_given_the_text_that_it_can_cut(tmp_path, monkeypatch):
    for name in ("a.txt", "b.jsonl", "c.txt.gz", "d.jsonl.gz"):
        (tmp_path / name).touch()

    def kinds(source, bad_utf8="strict", **reading):
        inputs = parse_source(str(source)).inputs(reader(bad_utf8, **reading), "train")
        return [type(item) if isinstance(item, Documents | Pieces | CutPieces) else item for item in inputs]

    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO()))
    assert kinds(tmp_path) == [tmp_path / "a.txt", Documents, Pieces, Documents]
    assert kinds("-") == [Pieces]
    assert kinds(tmp_path, bad_utf8="skip") == [Pieces, Documents, Pieces, Documents]
    assert kinds("-", bad_utf8="replace") == [Pieces]
    for options in ({"document_pattern": "^x"}, {"document_pattern": "^x", "bad_utf8": "skip"}):
        assert set(kinds(tmp_path, **options)) == {CutPieces}
        assert kinds("-", **options) == [CutPieces]
        assert kinds("hf:name", **options) == [CutPieces]
    assert kinds(tmp_path, documents="wikitext") == [tmp_path / "a.txt", Pieces, Pieces, Pieces]
    assert kinds("hf:name") == [Documents]
