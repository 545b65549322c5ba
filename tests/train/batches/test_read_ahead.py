"""Reading ahead gives the same batches, raises errors at their own step, and leaves no thread behind."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tttkit.train.batches import read_ahead
from tttkit.train.batches.read_ahead import ReadAhead


def ahead_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("tttkit-read-ahead")]


def test_it_returns_the_result_of_read_for_steps_in_any_order():
    ahead = ReadAhead(lambda step: step * 10, last_step=9)
    steps = [1, 2, 3, 3, 2, 9, 8, 9, 1, 4, 5, 6, 7, 8, 9]
    assert [ahead.get(step) for step in steps] == [step * 10 for step in steps]
    ahead.close()


def test_it_reads_the_next_two_steps_while_the_caller_works_and_never_past_the_last():
    reached = {step: threading.Event() for step in range(1, 8)}

    def note(step):
        reached[step].set()
        return step

    ahead = ReadAhead(note, last_step=5)
    for step in range(1, 6):
        assert ahead.get(step) == step
        for later in range(step + 1, min(step + 2, 5) + 1):
            assert reached[later].wait(10)  # no `get` asked for these steps
    assert not reached[6].wait(0.1)
    ahead.close()


def test_an_error_is_raised_at_its_step_and_does_not_persist():
    broken = {3}

    def read(step):
        if step in broken:
            raise OSError(f"step {step}")
        return step

    ahead = ReadAhead(read, last_step=9)
    assert [ahead.get(1), ahead.get(2)] == [1, 2]
    with pytest.raises(OSError, match="step 3"):
        ahead.get(3)
    broken.clear()
    assert [ahead.get(3), ahead.get(4)] == [3, 4]
    ahead.close()


def test_no_thread_is_left_after_close_and_none_before_the_first_get():
    ahead = ReadAhead(str, last_step=9)
    assert not ahead_threads()
    ahead.get(1)
    assert len(ahead_threads()) == 1
    ahead.close()
    ahead.close()
    assert not ahead_threads()
    assert ahead.get(2) == "2"
    ahead.close()
    assert not ahead_threads()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # this test forks beside a thread on purpose
def test_a_forked_child_starts_its_own_thread():
    ahead = ReadAhead(str, last_step=9)
    assert ahead.get(1) == "1"
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # waiting for the parent's thread would never end
        try:
            answers = [ahead.get(2), ahead.get(3)]
            ahead.close()
            os._exit(0 if answers == ["2", "3"] and not ahead_threads() else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ahead.get(2) == "2"
    ahead.close()


@pytest.mark.parametrize("crash_at", [None, 5])
def test_a_run_is_the_same_without_reading_ahead_and_leaves_no_thread(tiny_values, tmp_path, monkeypatch, crash_at):
    from tests.train.batches.test_feed import CrashError, results, run_training

    if crash_at is not None:
        with pytest.raises(CrashError):
            run_training(tiny_values(), tmp_path / "ahead", crash_at=crash_at)
        assert not ahead_threads()
        return
    ahead, _ = run_training(tiny_values(), tmp_path / "ahead")
    assert not ahead_threads()
    monkeypatch.setattr(read_ahead, "NUM_AHEAD", 0)
    plain, _ = run_training(tiny_values(), tmp_path / "plain")
    assert results(plain) == results(ahead)
