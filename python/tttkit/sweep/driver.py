"""The driver of a study: starts `tttkit train` for every trial, a few at a time, and goes on after any interruption.

The lock of a run directory decides who trains it, so several drivers may work on one study. Runs that outlive their
driver go on, and the next driver leaves them alone until they end.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

from tttkit.errors import PreemptedError, RunLockedError
from tttkit.run.directory import STUDY_FILE, TRIALS
from tttkit.run.lock import is_locked
from tttkit.run.pruned_file import write_pruned
from tttkit.run.saved import ENDED
from tttkit.run.signals import GRACE_SECONDS
from tttkit.storage import files, filesystem
from tttkit.sweep.processes import Process, Start
from tttkit.sweep.pruning import Pruning, is_pruned
from tttkit.sweep.results import mean_objective
from tttkit.sweep.search import Search
from tttkit.sweep.study import Study
from tttkit.sweep.trials import LOGS, Trial, trials_of

STOP_SECONDS = GRACE_SECONDS + 5.0
"""How long the driver waits for its runs to save and stop. They end by themselves within their grace period."""
_POLL_SECONDS, _LOOK_SECONDS = 0.2, 1.0


class Driver:
    """Runs the trials of a study in at most `workers` processes."""

    def __init__(
        self,
        study: Study,
        directory: Path,
        search: Search,
        *,
        start: Start,
        workers: int,
        report: Callable[[str, Trial], None],
    ) -> None:
        """`start` begins a process; `report(event, trial)` hears what happens to a trial: "started", "ended", …"""
        self._study, self._directory, self._search = study, directory, search
        self._start_process, self._workers, self._report = start, workers, report
        self._running: dict[str, tuple[Trial, Process]] = {}
        self._given_up: set[str] = set()
        self._told: set[str] = set()
        self._waits = False
        self._pruning = Pruning(study)
        self.failed: list[Trial] = []
        """Trials whose process failed, in the order in which they did."""

    def run(self, poll: Callable[[], None]) -> None:
        """Run every trial until all have ended; those that another process runs are waited for.

        `poll` is called several times a second. If it raises, the runs are asked to stop with SIGTERM, and save; the
        exception goes on when they have.
        """
        try:
            while True:
                self._tell()
                while len(self._running) < self._workers and (trial := self._next()) is not None:
                    self._start(trial)
                if not self._running and not self._others_run():
                    return
                self._wait(poll)
        except BaseException:
            self._stop()
            raise

    def _wait(self, poll: Callable[[], None]) -> None:
        """Wait until a process ends. If a worker is free, wait a second at most: other drivers' runs may end."""
        deadline = time.monotonic() + _LOOK_SECONDS
        while not self._reap():
            poll()
            self._prune()
            if len(self._running) < self._workers and time.monotonic() > deadline:
                return
            time.sleep(_POLL_SECONDS)

    def _prune(self) -> None:
        """Stop own runs that are worse than others. The record comes first, so that no driver starts them again."""
        for trial, process in self._running.values():
            others = (
                Trial(self._study, self._directory, setting, trial.seed)
                for setting in self._search.settings()
                if setting != trial.setting
            )
            if (pruned := self._pruning.judge(trial, others)) and process.poll() is None:
                write_pruned(trial.run, pruned)
                process.terminate()

    def _others_run(self) -> bool:
        """Whether another process runs a trial of this study: another driver's, or one that outlived its driver."""
        for setting in self._search.settings():
            for trial in trials_of(self._study, self._directory, setting):
                if trial.run.lock.exists() and is_locked(trial.run):
                    if not self._waits:
                        self._waits = True
                        self._report("waiting for another process that trains", trial)
                    return True
        return False

    def _next(self) -> Trial | None:
        """Return a trial that can be started now: of a setting that was chosen before, else of a new one."""
        for setting in self._search.settings():
            trials = trials_of(self._study, self._directory, setting)
            if is_pruned(self._study, trials):
                continue
            for trial in trials:
                if self._can_start(trial):
                    return trial
        proposed = self._search.propose()
        return None if proposed is None else trials_of(self._study, self._directory, proposed)[0]

    def _can_start(self, trial: Trial) -> bool:
        if trial.name in self._running or trial.name in self._given_up:
            return False
        if trial.run.lock.exists() and is_locked(trial.run):
            return False
        return trial.state not in ENDED

    def _start(self, trial: Trial) -> None:
        trial.log.parent.mkdir(parents=True, exist_ok=True)
        trial.run.path.parent.mkdir(parents=True, exist_ok=True)
        if trial.run.pruned.exists():
            filesystem.current.unlink(trial.run.pruned)  # the study has stopped pruning
        self._running[trial.name] = trial, self._start_process(trial)
        self._report("started", trial)

    def _reap(self) -> bool:
        """Note which processes have ended, and how; return whether any has."""
        before = len(self._running)
        for name, (trial, process) in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[name]
            if code == 0 and trial.state in ENDED:
                self._report("ended", trial)
                continue
            # not started again by this driver: the next call of the command does
            self._given_up.add(name)
            if is_pruned(self._study, [trial]):
                self._report("pruned", trial)
            elif code in (PreemptedError.exit_code, -signal.SIGTERM):
                self._report("preempted", trial)
            elif code != RunLockedError.exit_code:
                self.failed.append(trial)
                self._report("failed", trial)
        return len(self._running) < before

    def _tell(self) -> None:
        """Tell the search the result of every setting whose seeds have all ended."""
        for setting in self._search.settings():
            trials = trials_of(self._study, self._directory, setting)
            key = setting.digest(self._study)
            if key in self._told:
                continue
            pruned = is_pruned(self._study, trials)
            if pruned or all(trial.state in ENDED or trial in self.failed for trial in trials):
                self._told.add(key)
                objectives = [] if pruned else [trial.objective for trial in trials]
                self._search.tell(setting, mean_objective(objectives), is_pruned=pruned)

    def _stop(self) -> None:
        """Ask all runs to save and stop, and wait for them."""
        for _, process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        running = [process for _, process in self._running.values()]
        while time.monotonic() < deadline and (running := [process for process in running if process.poll() is None]):
            time.sleep(_POLL_SECONDS)
        for process in running:
            # it saved what it could in its own grace period
            process.kill()


def prepare_directory(directory: Path, values: dict[str, object]) -> None:
    """Make the directory of a study and record its values there, for `status`."""
    for folder in (directory / TRIALS, directory / LOGS):
        folder.mkdir(parents=True, exist_ok=True)
    files.write_json(directory / STUDY_FILE, values)
