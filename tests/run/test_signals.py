"""Signals in this process. tests/faults tests signals to a whole run."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tttkit.run.signals import StopRequestedError, StopSignals, within


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_stop_is_raised_at_the_next_poll_and_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        signals.poll()
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(lambda: signals.requested is not None)
        with pytest.raises(StopRequestedError, match="SIGTERM"):
            signals.poll()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_save_is_requested_once():
    with StopSignals() as signals:
        assert not signals.take_save_request()
        os.kill(os.getpid(), signal.SIGUSR1)
        wait_for(signals.take_save_request)
        assert not signals.take_save_request()
        signals.poll()


def test_a_call_has_limited_time():
    """A call that takes too long or fails has no result."""
    started = time.monotonic()
    assert within(0.05, lambda: time.sleep(5)) is None
    assert time.monotonic() - started < 4
    assert within(5, lambda: 1 // 0) is None
    assert within(5, lambda: 7) == 7
