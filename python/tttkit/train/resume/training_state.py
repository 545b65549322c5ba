"""The training state in memory: everything that decides how a run continues, and that a training checkpoint holds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from tttkit.distributed.ranks import Ranks
from tttkit.distributed.sharded import own_shard
from tttkit.models import LanguageModel
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import training_checkpoints
from tttkit.train.early_stopping import EarlyStopping
from tttkit.train.resume import checkpoint
from tttkit.train.resume.progress import TrainingProgress
from tttkit.train.resume.sharded_checkpoint import save_sharded_checkpoint
from tttkit.train.update import Updater


class TrainingState:
    """Model, optimizer, contiguous rows, early stopping and progress of a run, and whether they are on disk."""

    def __init__(
        self,
        run: RunDirectory,
        run_id: str | None,
        model: LanguageModel,
        optimizer: torch.optim.Optimizer,
        updater: Updater,
        early_stopping: EarlyStopping,
        stable_end: int | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        """Begin as a new run, at step 0. The newest training checkpoint up to step `stable_end` is always kept."""
        self._stable_end = stable_end
        self._ranks = ranks or Ranks()
        self._rows: dict[str, torch.Tensor] = {}
        self.progress = TrainingProgress()
        self._run = run
        self._run_id = run_id
        self._model = model
        self._optimizer = optimizer
        self._updater = updater
        self._early_stopping = early_stopping
        self._saved: tuple[int, int, int] | None = None

    @property
    def is_saved(self) -> bool:
        """Whether the newest training checkpoint that this process wrote or loaded holds the current state."""
        return self._saved == self._position

    @is_saved.setter
    def is_saved(self, is_saved: bool) -> None:
        self._saved = self._position if is_saved else None
        self._rows = {}

    @property
    def is_first(self) -> bool:
        """Whether the run has no training checkpoint yet, neither of this process nor of an earlier one."""
        return self._saved is None and not training_checkpoints(self._run)

    @property
    def is_finite(self) -> bool:
        """Whether weights, optimizer moments and the recurrent states of contiguous rows are finite on all ranks."""
        moments = (value for state in self._optimizer.state.values() for value in state.values())
        rows = self._updater.feed.tensors().values()
        tensors = (*self._model.parameters(), *moments, *rows)
        return self._ranks.all_true(all(bool(torch.isfinite(own_shard(tensor)).all()) for tensor in tensors))

    @property
    def is_in_shards(self) -> bool:
        """Whether every rank has only a shard of the weights, so that all ranks must call `write`."""
        return checkpoint.is_in_shards(self._model)

    def collect(self) -> None:
        """Collect the recurrent states of all ranks for the next `write`. All ranks must call it."""
        if self._ranks.world.is_distributed:
            self._rows = self._updater.feed.tensors_of_all()

    def write(self) -> None:
        """Commit a training checkpoint of the current step. Raises DiskFullError, OSError.

        If weights are in shards, all ranks must call it, and rank 0 knows whether it succeeded. Otherwise only rank 0
        may call it. All ranks have called `collect` before.
        """
        rows = self._rows if self._ranks.world.is_distributed else self._updater.feed.tensors()
        values = {
            "run_id": self._run_id,
            "progress": dataclasses.asdict(self.progress),
            "early_stopping": self._early_stopping.to_dict(),
        }
        what = (self._run, self.progress.step, self._model, self._optimizer, values, rows)
        if self.is_in_shards:
            save_sharded_checkpoint(*what, ranks=self._ranks, stable_end=self._stable_end)
        else:
            checkpoint.save_checkpoint(*what, stable_end=self._stable_end)
            self.is_saved = True

    def load_newest(self, at_most: int | None = None) -> checkpoint.LoadedCheckpoint | None:
        """Read the newest valid training checkpoint, up to step `at_most`, without restoring it; None if there is none.

        Rank 0 chooses it and sets damaged ones aside; the others read the same one. Raises CheckpointError if there
        are checkpoints, but none is valid.
        """
        loaded = None
        if self._ranks.world.is_first:
            loaded = checkpoint.load_newest_checkpoint(
                self._run, run_id=self._run_id, at_most=at_most, in_shards=self.is_in_shards
            )
        chosen = self._ranks.tell(loaded and [loaded.step, str(loaded.path)])
        if chosen is None or loaded is not None:
            return loaded
        return checkpoint.read_checkpoint(
            Path(chosen[1]), chosen[0], run_id=self._run_id, in_shards=self.is_in_shards, is_verified=self.is_in_shards
        )

    def restore(self, loaded: checkpoint.LoadedCheckpoint, *, tokens_per_step: int = 0) -> None:
        """Restore everything from a loaded training checkpoint. Raises CheckpointError if it does not fit.

        `tokens_per_step` is the size of the updates before a training checkpoint of schema 2, which counted no tokens.
        """
        checkpoint.restore_checkpoint(loaded, self._model, self._optimizer)
        self.progress = TrainingProgress(**{"tokens_seen": loaded.step * tokens_per_step, **loaded.values["progress"]})
        self._updater.feed.load(loaded.tensors, loaded.step, self.progress.tokens_seen)
        self._updater.restart(self.progress.micro_batch)
        self._early_stopping.load(loaded.values["early_stopping"])
        self.is_saved = True

    def adopt(self, loaded: checkpoint.LoadedCheckpoint) -> None:
        """Restore everything from a training checkpoint of another run, whose evaluations and best model stay there.

        Raises CheckpointError if it does not fit.
        """
        self.restore(loaded)
        self.progress.evaluated = []
        self._early_stopping.forget_best()
        self.is_saved = False

    @property
    def _position(self) -> tuple[int, int, int]:
        """Differs between any two states that must be saved: an evaluation or a rollback keeps the step."""
        return self.progress.step, len(self.progress.evaluated), self.progress.num_rollbacks
