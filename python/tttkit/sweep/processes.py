"""Processes of trials: what the driver of a study needs from one, and how one is started on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol

from tttkit.storage import filesystem
from tttkit.sweep.trials import Trial

_CODE = "from tttkit_cli.app import main; main()"
_ENDS_WITH_PARENT = "from tttkit.run.processes import end_with_parent; end_with_parent({parent}); "
_VARIABLE_PREFIX = "TTTKIT_SET_"


class Process(Protocol):
    """A process that trains a trial."""

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs."""
        ...

    def terminate(self) -> None:
        """Ask the process to save and stop."""
        ...

    def kill(self) -> None:
        """End the process at once."""
        ...


Start = Callable[[Trial], Process]
"""Starts the process of a trial."""


def start_here(trial: Trial, threads: int, *, ends_with_parent: bool = False) -> subprocess.Popen[bytes]:
    """Start `tttkit train` for a trial with that many threads on this machine; it logs to `trial.log`.

    With `ends_with_parent` the run saves and stops when this process ends, in whatever way.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_VARIABLE_PREFIX)}
    code = (_ENDS_WITH_PARENT.format(parent=os.getpid()) if ends_with_parent else "") + _CODE
    log = filesystem.current.open_append(trial.log)
    try:
        # a session of its own: Ctrl-C reaches the driver only, which then asks the runs to stop
        return subprocess.Popen(
            [sys.executable, "-c", code, *trial.options(threads)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=environment, start_new_session=True,
        )  # fmt: skip
    finally:
        filesystem.current.close(log)
