"""Errors that speak to the user: what was wrong, what was expected, what to do.

Every error that bad input can cause is a `TttkitError`. It carries the exit code that the command line returns and,
where there is one, a hint. The library raises; only the command line prints.
"""

from __future__ import annotations


class TttkitError(Exception):
    """Base of all errors caused by input or environment, not by a bug. `hint` says what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(TttkitError, ValueError):
    """Wrong option, configuration, path or name (exit code 2)."""

    exit_code = 2


class CheckpointError(TttkitError, ValueError):
    """No valid training state or checkpoint could be loaded (exit code 4)."""

    exit_code = 4


class NumericalError(TttkitError, ArithmeticError):
    """Loss, gradients, fast weights or logits are not finite and stay so (exit code 5)."""

    exit_code = 5


class DiskFullError(TttkitError, OSError):
    """A write failed because the disk or quota is full (exit code 6)."""

    exit_code = 6


class DeviceMemoryError(TttkitError, MemoryError):
    """The accelerator's memory does not hold the batch (exit code 7)."""

    exit_code = 7


class DataError(TttkitError, ValueError):
    """Unusable text, data set, manifest, model or result file (exit code 65)."""

    exit_code = 65


class ShardError(DataError):
    """A token shard whose header, size, ids or checksum are wrong (exit code 65)."""


class RunLockedError(TttkitError):
    """Another process is writing to the run directory (exit code 73)."""

    exit_code = 73


class PreemptedError(TttkitError):
    """A signal stopped the command; repeating it resumes from what is saved (exit code 75)."""

    exit_code = 75
