"""An output directory has one writer at a time, and an unfinished preparation keeps its finished shards."""

from __future__ import annotations

import json

import pytest

from tttkit.data.output import MARKER_NAME, check_output, locked_output
from tttkit.errors import RunLockedError, UsageError

SHARDS = [("train-00000.tok", "a" * 64), ("validation-00000.tok", "b" * 64), ("train-00001.tok", "c" * 64)]


class _Interrupted(BaseException):
    """Raised in place of the exceptions of Ctrl-C and SIGTERM."""


def interrupt(out, request, shards=SHARDS):
    """Record finished shards, then stop as a signal would."""
    with pytest.raises(_Interrupted), locked_output(out, request) as output:
        for name, digest in shards:
            (out / name).write_bytes(b"shard")
            output.record(name, digest)
        raise _Interrupted


def test_an_interrupted_preparation_keeps_its_finished_shards_for_the_same_request(tmp_path):
    out = tmp_path / "data"
    interrupt(out, "one")
    (out / ".tmp-train-00002.tok-1").touch()
    with locked_output(out, "one") as output:
        assert output.finished_shards("train") == [SHARDS[0], SHARDS[2]]
        assert output.finished_shards("validation") == [SHARDS[1]]
        assert {path.name for path in out.iterdir()} == {MARKER_NAME, *(name for name, _ in SHARDS)}
        output.keep_only({"train-00000.tok"})
        assert output.finished_shards("train") == [SHARDS[0]]
        assert not (out / "train-00001.tok").exists()
    assert {path.name for path in out.iterdir()} == {"train-00000.tok"}


@pytest.mark.parametrize("requests", [("one", "other"), (None, None), ("one", None)])
def test_another_request_or_an_unrepeatable_one_starts_clean(tmp_path, requests):
    first, second = requests
    interrupt(tmp_path / "data", first)
    with locked_output(tmp_path / "data", second) as output:
        assert output.finished_shards("train") == []
        assert {path.name for path in (tmp_path / "data").iterdir()} == {MARKER_NAME}


@pytest.mark.parametrize("tail", [b'["train-00001.tok", "c', b'["train-/../../x", "c"]\n', b"not JSON\n", b"\xff\n"])
def test_a_damaged_record_is_never_trusted(tmp_path, tail):
    out = tmp_path / "data"
    interrupt(out, "one", SHARDS[:1])
    with (out / MARKER_NAME).open("ab") as file:
        file.write(tail)
    with locked_output(out, "one") as output:
        assert output.finished_shards("train") in ([], SHARDS[:1])
        assert (out / "train-00000.tok").exists() == bool(output.finished_shards("train"))


def test_an_error_removes_only_the_files_of_the_preparation(tmp_path):
    made, given = tmp_path / "made", tmp_path / "given"
    given.mkdir()
    for out in (made, given):
        with pytest.raises(ValueError, match="wrong"), locked_output(out, "one") as output:
            (out / "train-00000.tok").write_bytes(b"shard")
            output.record("train-00000.tok", "a" * 64)
            (out / "notes.txt").write_text("mine") if out == given else None
            raise ValueError("wrong")
    assert not made.exists()
    assert [path.name for path in given.iterdir()] == ["notes.txt"]


def test_a_second_process_is_refused_while_the_first_prepares(tmp_path):
    with locked_output(tmp_path / "data", "one"):
        with (
            pytest.raises(RunLockedError, match="another process is preparing"),
            locked_output(tmp_path / "data", "one"),
        ):
            pass
        assert (tmp_path / "data" / MARKER_NAME).exists(), "the refused call removed the marker of the first"


def test_a_shard_is_recorded_once(tmp_path):
    with locked_output(tmp_path / "data", "one") as output:
        for _ in range(2):
            output.record(*SHARDS[0])
        head, *lines = (tmp_path / "data" / MARKER_NAME).read_text().splitlines()
    assert json.loads(head)["request"] == "one"
    assert [tuple(json.loads(line)) for line in lines] == SHARDS[:1]


def test_foreign_directories_are_refused(tmp_path):
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.touch()
    check_output(tmp_path / "new", tokenizer)
    with pytest.raises(UsageError, match="is a file"):
        check_output(tokenizer, tokenizer)
    with pytest.raises(UsageError, match=r"is not empty and holds no data set \(it has tokenizer.json\)"):
        check_output(tmp_path, tmp_path / "elsewhere.json")
    (tmp_path / MARKER_NAME).touch()
    check_output(tmp_path, tmp_path / "elsewhere.json")
    with pytest.raises(UsageError, match="holds an unfinished preparation and would be cleaned"):
        check_output(tmp_path, tokenizer)
