from __future__ import annotations

import pytest

from tttkit.train.logs import pending_writes
from tttkit.train.logs.pending_writes import PendingWrites


class Disk:
    """Accepts writes unless it is full."""

    def __init__(self) -> None:
        self.is_full = True
        self.written: list[str] = []

    def write(self, text: str):
        def call() -> None:
            if self.is_full:
                raise OSError(28, f"no space for {text}")
            self.written.append(text)

        return call


def test_failed_writes_wait_and_the_newest_of_each_name_is_written_in_order():
    disk, writes = Disk(), PendingWrites()
    for name, text in (("a", "a1"), ("b", "b1"), ("a", "a2")):
        assert not writes.attempt(name, disk.write(text))
    assert not writes.retry()
    assert (writes.is_complete, "no space for b1" in writes.problem) == (False, True)
    disk.is_full = False
    assert writes.retry()
    assert (disk.written, writes.problem, writes.is_complete) == (["a2", "b1"], None, True)


def test_errors_other_than_disk_errors_are_raised():
    def fail() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        PendingWrites().attempt("a", fail)


def test_expendable_writes_hold_up_neither_a_save_nor_the_end():
    disk, writes = Disk(), PendingWrites(expendable=frozenset({"log"}))
    writes.attempt("log", disk.write("line"))
    assert writes.is_complete
    assert writes.retry()
    writes.finish()
    writes.attempt("metadata", disk.write("values"))
    assert not writes.is_complete
    with pytest.raises(OSError, match="no space for values"):
        writes.finish()


def test_a_forgotten_write_is_not_tried_again_but_stays_a_problem():
    disk, writes = Disk(), PendingWrites()
    writes.attempt("checkpoint", disk.write("old"))
    writes.forget("checkpoint")
    disk.is_full = False
    assert writes.problem is not None
    assert writes.retry()
    assert disk.written == []
    assert writes.attempt("checkpoint", disk.write("new"))
    assert (disk.written, writes.problem) == (["new"], None)


def test_a_retry_is_due_some_time_after_the_last_try(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(pending_writes.time, "monotonic", lambda: clock[0])
    disk, writes = Disk(), PendingWrites()
    assert not writes.is_due
    writes.attempt("a", disk.write("a"))
    due = []
    for seconds in (9.0, 1.0):
        clock[0] += seconds
        due.append(writes.is_due)
    writes.retry()
    assert [*due, writes.is_due] == [False, True, False]


def test_a_place_that_is_gone_is_told_from_a_full_disk(tmp_path):
    writes = PendingWrites()
    gone = tmp_path / "gone"
    assert not writes.attempt("a", lambda: (gone / "a").write_text(""))
    assert writes.place_is_gone
    gone.mkdir()
    assert writes.retry()

    def full():
        raise OSError(28, "No space left on device")

    assert not writes.attempt("a", full)
    assert not writes.place_is_gone
