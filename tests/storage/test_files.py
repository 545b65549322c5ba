from __future__ import annotations

import errno
import io
import json
import math
import os
import stat
from pathlib import Path

import pytest

from tttkit.errors import DataError, DiskFullError
from tttkit.storage import commits, files, filesystem


def _commit(path, content=b"abc"):
    with commits.commit_directory(path) as directory:
        (directory / "a.bin").write_bytes(content)
        (directory / "b.txt").write_text("b")


def test_writes_replace_and_leave_nothing_behind(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": [1.5, math.nan, math.inf, -math.inf]})
    assert files.read_json(path) == {"a": [1.5, "NaN", "Infinity", "-Infinity"]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    files.write_text(path, "old")

    def no_space(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(filesystem.current, "sync", no_space)
    with pytest.raises(DiskFullError, match=r"disk full while writing .*x\.txt"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_every_write_is_synced_before_its_rename(tmp_path, monkeypatch):
    calls = []
    for name in ("sync", "rename", "sync_directory"):
        real = getattr(filesystem.current, name)
        monkeypatch.setattr(filesystem.current, name, lambda *a, n=name, real=real: (calls.append(n), real(*a))[1])
    files.write_text(tmp_path / "x", "y")
    assert calls == ["sync", "rename", "sync_directory"]


def test_a_directory_is_committed_complete_and_replaced(tmp_path):
    path = tmp_path / "step_1"
    _commit(path)
    commits.verify_directory(path)
    _commit(path, b"newer")
    commits.verify_directory(path)
    assert (path / "a.bin").read_bytes() == b"newer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_1"]


def test_failure_inside_a_commit_leaves_the_old_directory(tmp_path):
    path = tmp_path / "step_1"
    _commit(path)
    with pytest.raises(RuntimeError), commits.commit_directory(path) as directory:
        (directory / "a.bin").write_bytes(b"half")
        raise RuntimeError
    commits.verify_directory(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_1"]


def test_committed_files_have_the_mode_of_the_umask(tmp_path):
    with commits.commit_directory(tmp_path / "d") as directory:
        files.write_new(directory / "a", [b"a"])
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "d" / "a").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: (d / "a.bin").write_bytes(b"abd"),
        lambda d: (d / "a.bin").write_bytes(b"ab"),
        lambda d: (d / "a.bin").write_bytes(b"abcd"),
        lambda d: (d / "b.txt").unlink(),
        lambda d: (d / "MANIFEST.json").unlink(),
        lambda d: (d / "MANIFEST.json").write_text("{"),
        lambda d: (d / "MANIFEST.json").write_text("[]"),
        lambda d: (d / "MANIFEST.json").write_text((d / "MANIFEST.json").read_text() + " "),
        lambda d: (d / "MANIFEST.json").write_text('{"files": {"../x": {"size": 1, "sha256": ""}}}'),
    ],
)
def test_damage_is_detected(tmp_path, damage):
    path = tmp_path / "step_1"
    _commit(path)
    damage(path)
    with pytest.raises(DataError, match="step_1"):
        commits.verify_directory(path)


def test_an_incomplete_last_line_is_removed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    files.append_lines(path, ["one"])
    with path.open("a") as file:
        file.write('{"torn')
    files.trim_torn_line(path)
    files.append_lines(path, ["two"])
    assert path.read_text() == "one\ntwo\n"


def test_a_failed_append_leaves_no_incomplete_line(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    files.append_lines(path, ["one"])
    write = filesystem.current.write

    def half(descriptor, data):
        if len(data) < 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(filesystem.current, "write", half)
    with pytest.raises(DiskFullError):
        files.append_lines(path, ["two and a half"])
    assert path.read_text() == "one\n"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_directories_are_replaced_even_if_names_cannot_be_exchanged(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "best_model"
    _commit(path)
    monkeypatch.setattr(filesystem.current, "exchange", refuse)
    _commit(path, b"newer")
    commits.verify_directory(path)
    assert (path / "a.bin").read_bytes() == b"newer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["best_model"]


def test_a_full_disk_while_appending_is_reported():
    with pytest.raises(DiskFullError, match="/dev/full"):
        files.append_lines(files.Path("/dev/full"), ["x"])


def test_read_json_reports_what_is_wrong(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(DataError, match="missing file"):
        files.read_json(path)
    path.write_text("[" * 100_000)
    with pytest.raises(DataError, match="not valid JSON"):
        files.read_json(path)
    path.write_text("[" * 40 + "]" * 40)
    with pytest.raises(DataError, match="nested more than 32 deep"):
        files.read_json(path)
    path.write_text("[" * 33 + "]" * 33)
    assert files.read_json(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="not a plain file"):
        files.read_json(tmp_path / "pipe")
    path.write_text(json.dumps(["x" * 100]))
    with pytest.raises(DataError, match="more than the 50"):
        files.read_json(path, max_bytes=50)


def test_only_our_leftovers_are_removed(tmp_path):
    (tmp_path / ".tmp-a-1-2").write_text("")
    (tmp_path / ".tmp-b-1-2").mkdir()
    (tmp_path / "keep").write_text("")
    assert sorted(commits.sweep_temporaries(tmp_path)) == [".tmp-a-1-2", ".tmp-b-1-2"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["keep"]


@pytest.mark.parametrize("name", ["a.png", "/folder/a-1.json", "folder/a"])
def test_the_final_name_follows_from_a_temporary_name(name):
    assert files.final_name(str(files.temporary_name(Path(name)))) == name
    assert files.final_name(name) == name
    assert files.final_name(f"{name}/.tmp-x") == f"{name}/.tmp-x"
    inside = files.temporary_name(files.temporary_name(Path(name)) / "MANIFEST.json")
    assert files.final_name(str(inside)) == f"{name}/MANIFEST.json"


CALLS = ("create", "open_append", "open_existing", "write", "sync", "rename", "exchange", "mkdir", "sync_directory")
"""Calls that can fail because the disk is full."""


def _write_everything(root: Path) -> None:
    """Write in every way that `storage` offers."""
    files.make_directory(root / "new" / "state")
    for content in (b"old", b"new"):
        with commits.commit_directory(root / "new" / "state" / "step_100") as directory:
            files.write_new(directory / "tensors.safetensors", [content])
            files.write_json(directory / "state.json", {"step": 100})
    files.write_bytes(root / "plot.png", b"png")
    files.append_lines(root / "metrics.jsonl", ["{}"], sync=True)
    files.overwrite(root / "plot.png", b"x")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("call", CALLS)
def test_a_full_disk_is_reported_with_final_names_and_what_to_do(tmp_path, monkeypatch, call, number):
    """Each call in turn fails, until no call is left to fail. No message contains a temporary name."""
    real, messages, hints = getattr(filesystem.current, call), [], []
    for fatal in range(1, 40):
        count = iter(range(1, 1000))

        def fail(*arguments, fatal=fatal, count=count):
            if next(count) == fatal:
                path = next((str(item) for item in arguments if isinstance(item, Path)), None)
                raise OSError(number, os.strerror(number), path)
            return real(*arguments)

        monkeypatch.setattr(filesystem.current, call, fail)
        root = tmp_path / str(fatal)
        root.mkdir()
        try:
            _write_everything(root)
            break
        except DiskFullError as error:
            messages.append(str(error).replace(f"{root}/", ""))
            hints.append(error.hint)
    names = {"new", "new/state", "new/state/step_100", "plot.png", "metrics.jsonl"}
    names |= {f"new/state/step_100/{name}" for name in ("tensors.safetensors", "state.json", "MANIFEST.json")}
    assert messages
    assert all(hint.endswith("then run the command again") for hint in hints)
    assert {message.removeprefix("disk full while writing ") for message in messages} <= names


def test_odd_bytes_of_a_name_come_back_from_json(tmp_path):
    """The file is UTF-8, although the name in it is not."""
    name = os.fsdecode(b"nov\xe9las")
    files.write_json(tmp_path / "a.json", {"path": name})
    assert (tmp_path / "a.json").read_bytes().decode()
    assert files.read_json(tmp_path / "a.json") == {"path": name}
    files.append_lines(tmp_path / "log", [f"wrote {name}"])
    assert (tmp_path / "log").read_text(encoding="utf-8") == "wrote nov\\udce9las\n"


def test_a_copy_of_a_stream_is_read_from_its_start():
    with files.temporary_copy(io.BytesIO(b"abc" * 1000)) as copy:
        copy.seek(0)
        assert copy.read() == b"abc" * 1000
