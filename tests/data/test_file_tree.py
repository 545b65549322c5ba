from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tttkit.data.file_tree import walk
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


def test_links_to_folders_are_followed_and_what_is_not_read_is_named(tmp_path):
    """The link sorts by its own name. A link into the tree is left out: its folder is read at its own place."""
    for path in ("src/b/one.txt", "elsewhere/two.txt", "src/c.bin", "src/d.tar.gz", "src/.h.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    root = tmp_path / "src"
    (root / "a").symlink_to("../elsewhere")
    (root / "z").symlink_to("b")
    (root / "gone.txt").symlink_to("nothing")
    os.mkfifo(root / "pipe.txt")
    left_out = []
    wanted = lambda name: name.endswith(".txt") and not name.startswith(".")  # noqa: E731
    files = list(walk(root, wanted, leave_out=lambda *item: left_out.append(item)))
    assert files == [root / "a" / "two.txt", root / "b" / "one.txt"]
    assert sorted((what, Path(name).name) for what, _, name in left_out) == [
        ("broken links", "gone.txt"), ("files ending in .bin", "c.bin"), ("files ending in .tar.gz", "d.tar.gz"),
        ("hidden files", ".h.txt"), ("links to folders", "z"), ("pipes, sockets or devices", "pipe.txt"),
    ]  # fmt: skip
    assert list(walk(root, wanted, follow_links=False)) == [root / "b" / "one.txt"]


@pytest.mark.parametrize("target", [".", "..", "back"])
def test_links_that_never_end_are_refused(tmp_path, target):
    """`back` leads out of the tree to a folder with a link to itself."""
    root = tmp_path / "up" / "src"
    root.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "self").symlink_to(tmp_path / "other")
    (root / "link").symlink_to(tmp_path / "other" if target == "back" else target)
    with pytest.raises(UsageError, match="is a link to a folder that contains it"):
        list(walk(root, lambda _: True))


def test_a_directory_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot read directory .*missing: No such file or directory"):
        list(walk(tmp_path / "missing", lambda _: True))
