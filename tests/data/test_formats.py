from __future__ import annotations

from pathlib import PurePath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tttkit.data.formats import JSON, JSON_LINES, PARQUET, TEXT, format_of


@pytest.mark.parametrize(
    ("name", "ending", "content", "compression"),
    [
        ("a.jsonl.zst", ".jsonl", JSON_LINES, ".zst"), ("a.TXT", ".txt", TEXT, None), ("b.tar.gz", ".tar", None, ".gz"),
        ("c.gz", "", None, ".gz"), ("d", "", None, None), (".txt", "", None, None),
        ("a.ndjson", ".ndjson", JSON_LINES, None),
        ("c4-train.00000-of-01024.json.GZ", ".json", JSON, ".gz"), ("a/b.txt/c.parquet", ".parquet", PARQUET, None),
        ("a.txt.bz2", ".txt", TEXT, ".bz2"), ("a\udce9.md", ".md", TEXT, None),
    ],
)  # fmt: skip
def test_the_name_tells_content_and_compression(name, ending, content, compression):
    format_ = format_of(name)
    assert (format_.ending, format_.content, format_.compression) == (ending, content, compression)


@given(st.text("ab.é/", max_size=12))
def test_endings_are_those_of_pathlib(name):
    assume(not f"/{name}".rstrip("/").endswith("/."))  # a folder, which pathlib names without the dot
    assert format_of(name).ending == PurePath(name).suffix.lower()
