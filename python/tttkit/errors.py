"""Errors with messages for the user: what was wrong, what was expected, and what to do.

Every error that bad input can cause is a `TttkitError`. It has the exit code that the command line returns and
optionally a hint. The library raises errors; only the command line prints them.
"""

from __future__ import annotations


class TttkitError(Exception):
    """Base class of all errors that input or environment cause, not a bug. `hint` says what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(TttkitError, ValueError):
    """Wrong option, configuration, path or name (exit code 2)."""

    exit_code = 2


class CheckpointError(TttkitError, ValueError):
    """No valid training checkpoint could be loaded (exit code 4)."""

    exit_code = 4


class NumericalError(TttkitError, ArithmeticError):
    """Loss, gradients, fast weights, or logits were not finite, repeatedly (exit code 5)."""

    exit_code = 5


class DiskFullError(TttkitError, OSError):
    """A write failed because the disk or quota is full (exit code 6)."""

    exit_code = 6


class DeviceMemoryError(TttkitError, MemoryError):
    """The batch does not fit in the memory of the device (exit code 7)."""

    exit_code = 7


class DataError(TttkitError, ValueError):
    """A text, data set, manifest, model, or result file is unusable (exit code 65)."""

    exit_code = 65


class ShardError(DataError):
    """A token shard has a wrong header, size, token id, or checksum (exit code 65)."""


class RunLockedError(TttkitError):
    """Another process is writing to the run directory (exit code 73)."""

    exit_code = 73


class PreemptedError(TttkitError):
    """A signal stopped the run or command, and it can be resumed (exit code 75)."""

    exit_code = 75


class ClusterError(TttkitError):
    """A Ray cluster did not start, or lost a task too often; the command can be repeated (exit code 1)."""


class RankLostError(TttkitError):
    """Another rank of a distributed run ended or hangs, and the run can be resumed (exit code 76)."""

    exit_code = 76
