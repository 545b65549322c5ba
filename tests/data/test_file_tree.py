from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tttkit.data.file_tree import inner_suffix, walk
from tttkit.errors import UsageError

NAMES = st.text("a.b-/!0 é\uffff", min_size=1, max_size=8).filter(
    lambda name: not set(name.split("/")) & {"", ".", ".."}
)


@given(paths=st.sets(NAMES, max_size=25))
@settings(max_examples=60)
def test_a_tree_is_walked_in_the_bytewise_order_of_its_paths(tmp_path_factory, paths):
    """The names of files and directories have characters that sort before and after the slash."""
    root = tmp_path_factory.mktemp("tree")
    for path in sorted(paths):
        try:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        except OSError:
            continue  # the name is taken by a directory, or a part of the path by a file
    expected = [path for path in root.rglob("*") if path.is_file()]
    assert list(walk(root, lambda _: True)) == sorted(expected, key=os.fsencode)
    kept = [path for path in expected if "b" not in path.relative_to(root).parts[:-1] and "a" in path.name]
    assert list(walk(root, lambda name: "a" in name, skipped={"b"})) == sorted(kept, key=os.fsencode)


def test_the_inner_suffix_is_that_of_the_content():
    for name, suffix in [("a.jsonl.zst", ".jsonl"), ("a.TXT", ".txt"), ("b.tar.gz", ".tar"), ("c.gz", ""), ("d", "")]:
        assert inner_suffix(Path(name)) == suffix


def test_a_directory_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot read directory .*missing: No such file or directory"):
        list(walk(tmp_path / "missing", lambda _: True))
