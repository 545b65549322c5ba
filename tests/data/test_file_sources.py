from __future__ import annotations

import json
import os

import pytest

from tttkit.data.account import Account
from tttkit.data.file_sources import find_files
from tttkit.data.reader import Reading
from tttkit.errors import UsageError


def found(tmp_path, text, **rules):
    """Return the names below `tmp_path`, and the account of what was left out."""
    account = Account()
    paths = list(find_files(str(tmp_path / text), Reading(**rules), account.leave_out))
    return [str(path.relative_to(tmp_path)) for path in paths], account.left_out


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")


def test_a_folder_gives_every_ending_of_the_table_and_names_the_others(tmp_path):
    fill(tmp_path, "s/a.txt", "s/b.ndjson", "s/c.jl.bz2", "s/d.csv", "s/e.csv", "s/f", "s/._a.txt", "s/g.tar.gz")
    names, left_out = found(tmp_path, "s")
    assert names == ["s/a.txt", "s/b.ndjson", "s/c.jl.bz2"]
    assert [(item.what, item.count) for item in sorted(left_out, key=lambda item: item.what)] == [
        ("files ending in .csv", 2), ("files ending in .tar.gz", 1), ("files without an ending", 1),
        ("hidden files", 1),
    ]  # fmt: skip
    assert found(tmp_path, "s", format="text")[0] == [
        "s/a.txt",
        "s/b.ndjson",
        "s/c.jl.bz2",
        "s/d.csv",
        "s/e.csv",
        "s/f",
        "s/g.tar.gz",
    ]


def test_json_in_a_folder_is_read_if_its_first_record_has_the_field(tmp_path):
    fill(tmp_path, "s/z.txt")
    contents = {
        "list": json.dumps([{"text": "a"}], indent=1), "lines": '{"id": 1, "text": "a"}\n{"text": "b"}\n',
        "long": json.dumps({"id": "x" * (2 << 20), "text": "a"}), "settings": '{"vocab_size": 3}', "numbers": "[1, 2]",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / "s" / f"{name}.json").write_text(content)
    names, left_out = found(tmp_path, "s")
    assert names == ["s/lines.json", "s/list.json", "s/z.txt"]
    assert (left_out[0].count, left_out[0].why) == (3, "their first record has no field `text`")


def test_a_folder_without_text_says_what_it_holds(tmp_path):
    fill(tmp_path, "s/a.csv", "s/b.csv")
    with pytest.raises(UsageError, match=r"no text in directory .*s, which holds 2 files ending in \.csv"):
        found(tmp_path, "s")


def test_a_name_that_exists_is_never_a_pattern(tmp_path):
    fill(tmp_path, "[2019] a/x.txt", "[2019] a/y.txt", "2 a/z.txt", "what?.txt", "whats.txt", "*.txt")
    assert found(tmp_path, "[2019] a")[0] == ["[2019] a/x.txt", "[2019] a/y.txt"]
    assert found(tmp_path, "[2019] a/*.txt")[0] == ["[2019] a/x.txt", "[2019] a/y.txt"]
    assert found(tmp_path, "[[]2019] a/x*")[0] == ["[2019] a/x.txt"]
    assert found(tmp_path, "[0-9] a/*")[0] == ["2 a/z.txt"]
    assert found(tmp_path, "what?.txt")[0] == ["what?.txt"]
    assert found(tmp_path, "wha*.txt")[0] == ["what?.txt", "whats.txt"]
    assert found(tmp_path, "*.txt")[0] == ["*.txt"]
    with pytest.raises(UsageError, match="no file matches"):
        found(tmp_path, "[2019] a/*.md")


def test_what_a_glob_matches_and_does_not_read_is_named(tmp_path):
    fill(tmp_path, "a.txt", "folder/b.txt")
    os.mkfifo(tmp_path / "pipe")
    names, left_out = found(tmp_path, "*")
    assert names == ["a.txt"]
    assert sorted(item.first.rpartition("/")[2] for item in left_out) == ["folder", "pipe"]
    assert found(tmp_path, "**/*.txt") == (["a.txt", "folder/b.txt"], [])


def test_a_link_to_a_folder_above_it_is_refused_in_a_glob_too(tmp_path):
    fill(tmp_path, "s/a.txt")
    (tmp_path / "s" / "back").symlink_to(tmp_path / "s")
    with pytest.raises(UsageError, match="is a link to a folder that contains it"):
        found(tmp_path, "s/**/*.txt")
