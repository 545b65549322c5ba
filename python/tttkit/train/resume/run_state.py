"""What decides how a run goes on, in memory: written to `state/`, put back from there."""

from __future__ import annotations

import dataclasses

import torch

from tttkit.models import LanguageModel
from tttkit.run.directory import RunDirectory
from tttkit.train.early_stopping import EarlyStopping
from tttkit.train.resume import checkpoint
from tttkit.train.resume.progress import Progress
from tttkit.train.update import Updater


class RunState:
    """Model, optimizer, lanes, early stopping and progress of a run, and whether all of that is on disk."""

    def __init__(
        self,
        run: RunDirectory,
        run_id: str | None,
        model: LanguageModel,
        optimizer: torch.optim.Optimizer,
        updater: Updater,
        early_stopping: EarlyStopping,
    ) -> None:
        """As a new run begins."""
        self.progress = Progress()
        self._run = run
        self._run_id = run_id
        self._model = model
        self._optimizer = optimizer
        self._updater = updater
        self._early_stopping = early_stopping
        self._saved: tuple[int, int, int] | None = None

    @property
    def is_saved(self) -> bool:
        """Whether the newest state on disk is this one."""
        return self._saved == self._position

    @property
    def is_first(self) -> bool:
        """Whether no state was saved yet, neither by this process nor by an earlier one."""
        return self._saved is None and not checkpoint.states(self._run)

    @property
    def is_finite(self) -> bool:
        """Whether weights, learned fast weights among them, moments and lanes may be saved."""
        moments = (value for state in self._optimizer.state.values() for value in state.values())
        carried = self._updater.feed.tensors().values()
        return all(bool(torch.isfinite(tensor).all()) for tensor in (*self._model.parameters(), *moments, *carried))

    def write(self) -> None:
        """Commit it as the state of the current step. Raises DiskFullError, OSError."""
        values = {
            "run_id": self._run_id,
            "progress": dataclasses.asdict(self.progress),
            "early_stopping": self._early_stopping.to_dict(),
        }
        tensors = self._updater.feed.tensors()
        checkpoint.save_state(self._run, self.progress.step, self._model, self._optimizer, values, tensors)
        self._saved = self._position

    def load_newest(self) -> checkpoint.LoadedState | None:
        """The newest valid state of this run, not put back yet; None where there is none. Raises CheckpointError."""
        return checkpoint.load_newest_state(self._run, run_id=self._run_id)

    def restore(self, state: checkpoint.LoadedState) -> None:
        """Put a loaded state back. Raises CheckpointError when it does not fit."""
        checkpoint.restore(state, self._model, self._optimizer)
        self._updater.feed.load(state.tensors, state.step)
        self.progress = Progress(**state.values["progress"])
        self._updater.restart(self.progress.micro_batch)
        self._early_stopping.load(state.values["early_stopping"])
        self._saved = self._position

    @property
    def _position(self) -> tuple[int, int, int]:
        """What tells a state from the one before: an evaluation or a rollback changes it within a step."""
        return self.progress.step, len(self.progress.evaluated), self.progress.num_rollbacks
