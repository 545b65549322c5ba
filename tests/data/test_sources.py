from __future__ import annotations

import io
import json
import os
import socket
import sys
import types
from pathlib import Path

import datasets
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tttkit.data.sources import Reading, Survey, expand, iter_documents, survey, walk
from tttkit.data.text import Decoder
from tttkit.errors import DataError, UsageError

from .conftest import TEXTS


def read(*sources, bad_utf8="strict", split="train", **reading):
    return list(iter_documents([str(s) for s in sources], Reading(**reading), Decoder(bad_utf8=bad_utf8), split=split))


def test_files_directories_and_globs_give_the_same_documents_sorted_bytewise(text_files):
    folder = text_files[0].parent
    (folder / "B.txt").write_text("upper case comes first\n")
    (folder / "ignored.bin").write_bytes(b"\xff")
    expected = [*TEXTS, "upper case comes first\n"]
    assert read(folder) == read(f"{folder}/*.txt") == expected
    assert read(*sorted(folder.glob("*.txt"), key=os.fsencode)) == expected
    assert survey([str(folder)]).total_bytes == sum(len(text.encode()) for text in expected)


NAMES = st.text("a.b-/!0 é\uffff", min_size=1, max_size=8).filter(
    lambda name: not set(name.split("/")) & {"", ".", ".."}
)


@given(paths=st.sets(NAMES, max_size=25))
@settings(max_examples=60)
def test_a_tree_is_walked_in_the_order_of_its_sorted_paths(tmp_path_factory, paths):
    """Names with characters below and above the slash, in files and in directories."""
    root = tmp_path_factory.mktemp("tree")
    for path in sorted(paths):
        try:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        except OSError:
            continue  # a directory of this name is there, or a file where a directory would have to be
    expected = [path for path in root.rglob("*") if path.is_file()]
    assert list(walk(root, lambda _: True)) == sorted(expected, key=os.fsencode)
    kept = [path for path in expected if "b" not in path.relative_to(root).parts[:-1] and "a" in path.name]
    assert list(walk(root, lambda name: "a" in name, skipped={"b"})) == sorted(kept, key=os.fsencode)


def test_a_tree_keeps_links_to_files_and_leaves_links_to_directories(text_files):
    folder = text_files[0].parent
    (folder / "loop").symlink_to(folder)
    (folder / "link.txt").symlink_to(text_files[0])
    (folder / "dangling.txt").symlink_to(folder / "nothing")
    (folder / b"latin-\xe9.txt".decode(errors="surrogateescape")).write_text("a name that is not UTF-8")
    found = list(expand(str(folder)))
    assert [os.fsencode(path.name) for path in found] == [
        b"0.txt", b"1.txt", b"2.txt", b"latin-\xe9.txt", b"link.txt",
    ]  # fmt: skip


def test_stdin_is_read_once(monkeypatch):
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(b"a\nb\n")))
    assert read("-", documents="line") == ["a", "b"]
    assert survey(["-"]) == Survey(signature=None, total_bytes=None)


def test_jsonl(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(json.dumps({"body": text, "id": 1}) for text in TEXTS) + "\n\n")
    assert read(path, text_field="body") == TEXTS
    with pytest.raises(DataError, match="line 1 has no text field `text`"):
        read(path)
    path.write_text('{"text": "a"}\n{broken\n')
    with pytest.raises(DataError, match="records.jsonl: line 2 is not JSON"):
        read(path)
    path.write_text('{"text": "a"}\n[1]\n')
    with pytest.raises(DataError, match=r"records\.jsonl: line 2 is no JSON object"):
        read(path)
    path.write_text('{"text": null}\n')
    with pytest.raises(DataError, match=r"records\.jsonl: line 1: field `text` holds no text but null"):
        read(path)


def test_parquet_and_data_sets_on_disk(tmp_path):
    data = datasets.Dataset.from_dict({"text": TEXTS, "length": [len(text) for text in TEXTS]})
    data.to_parquet(tmp_path / "texts.parquet")
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": data, "validation": data.select([1])}).save_to_disk(tmp_path / "splits")
    assert read(tmp_path / "texts.parquet") == TEXTS
    assert read(f"hf:{tmp_path / 'one'}") == TEXTS
    assert read(f"hf:{tmp_path / 'splits'}", split="validation") == [TEXTS[1]]
    with pytest.raises(DataError, match=r"texts\.parquet has no text field `body`; it has text, length"):
        read(tmp_path / "texts.parquet", text_field="body")
    with pytest.raises(DataError, match=r"texts\.parquet: row 1: field `length` holds no text but int"):
        read(tmp_path / "texts.parquet", text_field="length")
    with pytest.raises(DataError, match=r"one: record 1 has no text field `body`; it has text, length"):
        read(f"hf:{tmp_path / 'one'}", text_field="body")


def test_records_without_text_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tttkit.data.records._PARQUET_ROWS", 2)
    path = tmp_path / "texts.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", "", "b", None]}), path)
    with pytest.raises(DataError, match=r"texts\.parquet: row 4: field `text` holds no text but null"):
        read(path)
    parquet.write_table(pyarrow.table({"text": ["a", "", "b", "c", "d"]}), path)
    assert read(path) == ["a", "b", "c", "d"]
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), path)
    assert read(path) == []
    for content in (b"", b"PAR1 and no more"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"texts\.parquet is damaged"):
            read(path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises((DataError, UsageError), match="broken"):
        read(f"hf:{tmp_path / 'broken'}")
    with pytest.raises(UsageError, match="`hf:` names no data set"):
        read("hf:")


def test_wikitext_rule_cuts_the_lines_of_a_data_set_into_articles(tmp_path):
    lines = ["", " = One = \n", " words \n", " = Two = \n", " more \n"]
    datasets.Dataset.from_dict({"text": lines}).save_to_disk(tmp_path / "wiki")
    assert read(f"hf:{tmp_path / 'wiki'}", documents="wikitext") == [" = One = \n words \n", " = Two = \n more \n"]


def test_hub_name_without_a_network_is_one_clear_error(monkeypatch):
    from huggingface_hub import constants

    def unknown(*_):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="cannot load data set nobody/nothing") as caught:
        read("hf:nobody/nothing")
    assert "needs the network" in caught.value.hint


def test_standard_library_is_this_interpreters_and_leaves_tests_out():
    found = list(expand("stdlib"))
    assert Path(json.__file__) in found
    assert not any("test" in path.parts or "site-packages" in path.parts for path in found)
    assert found == sorted(found, key=os.fsencode)


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


def test_invalid_utf8_names_file_line_and_byte(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"first\nsecond caf" + b"\xe9 end\n")
    for rule in ("file", "line"):
        with pytest.raises(DataError, match=r"latin.txt: invalid UTF-8 in line 2, byte 11 \(0xe9\)"):
            read(path, documents=rule)
    assert read(path, bad_utf8="replace") == ["first\nsecond caf\ufffd end\n"]
    assert read(path, bad_utf8="skip") == ["first\nsecond caf end\n"]


def test_byte_order_mark_is_dropped_and_empty_files_hold_no_document(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
    (tmp_path / "b.txt").write_bytes(b"")
    assert read(tmp_path) == ["hello"]
    assert read(tmp_path, documents="line") == ["hello"]


def test_a_survey_follows_the_files(text_files):
    folder = str(text_files[0].parent)
    before = survey([folder])
    assert survey([folder]) == before
    text_files[0].write_text("changed")
    assert survey([folder]).signature != before.signature
    assert survey([folder, "hf:name"]).total_bytes is None
    assert survey([folder, "hf:name"]).signature is not None
    assert survey([folder, "-"]).signature is None
    with pytest.raises(UsageError, match="no such source: nowhere"):
        survey(["-", "nowhere"])
    (text_files[0].parent / "packed.txt.gz").write_bytes(b"x")
    assert survey([folder]).total_bytes is None
