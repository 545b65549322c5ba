from __future__ import annotations

import datasets
import pytest

from tttkit.data.reader import Reading
from tttkit.errors import DataError, UsageError

from .conftest import read


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


def test_wikitext_rule_cuts_the_lines_of_a_data_set_into_articles(tmp_path):
    lines = ["", " = One = \n", " words \n", " = Two = \n", " more \n"]
    datasets.Dataset.from_dict({"text": lines}).save_to_disk(tmp_path / "wiki")
    assert read(f"hf:{tmp_path / 'wiki'}", documents="wikitext") == [" = One = \n words \n", " = Two = \n more \n"]


def test_wrong_rules_are_refused_before_anything_is_read():
    with pytest.raises(UsageError, match="unknown document rule `page`"):
        Reading(documents="page")
    with pytest.raises(UsageError, match="not a regular expression"):
        Reading(document_pattern="(")
