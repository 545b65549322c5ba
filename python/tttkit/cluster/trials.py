"""Trials of a study on a Ray cluster: each is a task that runs `tttkit train` beside its worker and waits for it.

The lock of a run directory decides who trains it, as on one machine. If a worker is killed, its run saves and stops,
and Ray starts the task again, which resumes the run. If the driver is killed, Ray ends its workers, so their runs save
and stop too. All machines must see the study and the data under the same paths.
"""

from __future__ import annotations

import time

from tttkit.cluster.tasks import Cluster
from tttkit.errors import PreemptedError, TttkitError
from tttkit.run.lock import is_locked
from tttkit.run.signals import GRACE_SECONDS
from tttkit.storage import filesystem
from tttkit.sweep.processes import start_here
from tttkit.sweep.trials import Trial

_POLL_SECONDS = 0.2
_LEAVING_SECONDS = GRACE_SECONDS + 5.0
"""How long to wait for a run whose worker was lost, which saves and stops."""


class TrialOnCluster:
    """The process of a trial, somewhere on the cluster; `sweep.processes.Process` explains its methods."""

    def __init__(self, cluster: Cluster, trial: Trial) -> None:
        """Hand the trial to the cluster; it begins as soon as there is room."""
        on_gpu = cluster.has_gpus and trial.config().train.device in (None, "cuda")
        self._trial = trial
        self._task = cluster.start(train, trial, cluster.threads, on_gpu=on_gpu)
        self._is_asked = False

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs or waits for room."""
        if not self._task.has_ended:
            return None
        try:
            return int(self._task.result())
        except TttkitError as error:
            if self._is_asked:
                return PreemptedError.exit_code  # it had not begun
            _log(self._trial, error)
            return error.exit_code

    def terminate(self) -> None:
        """Ask the process to save and stop."""
        self._is_asked = True
        self._task.cancel()

    def kill(self) -> None:
        """End the process at once."""
        self._task.cancel(force=True)


def train(trial: Trial, threads: int) -> int:
    """Run `tttkit train` for a trial in a task, and return its exit code. KeyboardInterrupt asks it to stop."""
    deadline = time.monotonic() + _LEAVING_SECONDS
    while trial.run.lock.exists() and is_locked(trial.run) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    process = start_here(trial, threads, ends_with_parent=True)
    try:
        # in small steps: Ray interrupts Python code, not a call that waits
        while process.poll() is None:
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        process.terminate()
    return process.wait()


def _log(trial: Trial, error: TttkitError) -> None:
    log = filesystem.current.open_append(trial.log)
    try:
        filesystem.current.write(log, f"error: {error}\n".encode())
    finally:
        filesystem.current.close(log)
