"""`Trial`: one setting with one seed, its run directory, its command, and what became of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tttkit.config.layers import Choices, collect_layers, merge_layers, toml_value
from tttkit.config.run import Config, build_config
from tttkit.errors import DataError, TttkitError, UsageError
from tttkit.health.lifecycle import read_lifecycle
from tttkit.run.directory import TRIALS, RunDirectory
from tttkit.sweep.study import MODEL_KEY, PRESET_KEY, SEED_KEY, Setting, Study

LOGS = "logs"
WAITING, DAMAGED = "waiting", "damaged"
"""States of a trial that has not started, and of one whose record cannot be read."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run of a study."""

    study: Study
    directory: Path
    """Directory of the study."""
    setting: Setting
    seed: int

    @property
    def name(self) -> str:
        """Name of the run directory: the setting by its digest, and the seed."""
        return f"{self.setting.digest(self.study)}-seed{self.seed}"

    @property
    def run(self) -> RunDirectory:
        """The run directory."""
        return RunDirectory(self.directory / TRIALS / self.name)

    @property
    def log(self) -> Path:
        """What the process of the run printed."""
        return self.directory / LOGS / f"{self.name}.log"

    @property
    def state(self) -> str:
        """State of the run, as in `tttkit status`; `waiting` before it has started, `damaged` if it cannot be read."""
        if not self.run.metadata.exists():
            return WAITING
        try:
            return read_lifecycle(self.run, self.run.read_metadata()).state
        except DataError:
            return DAMAGED

    @property
    def objective(self) -> float | None:
        """The objective at the last evaluation; None if it is not known.

        Raises UsageError if the evaluations hold no such key.
        """
        summaries = self.run.read_summaries() if self.run.summaries.exists() else []
        if not summaries:
            return None
        key = self.study.objective
        if key not in summaries[-1].to_dict():
            raise UsageError(
                f"the evaluations of {self.run.path} have no `{key}`", hint="objective must be a key of summary.json"
            )
        return summaries[-1].value(key)

    def evaluations(self) -> dict[int, float]:
        """Return the objective by step at every evaluation so far that has one; empty if they cannot be read."""
        try:
            summaries = [summary.to_dict() for summary in self.run.read_summaries()]
        except DataError:
            return {}
        values = {each.get("step"): each.get(self.study.objective) for each in summaries}
        return {
            step: float(value)
            for step, value in values.items()
            if isinstance(step, int) and isinstance(value, int | float)
        }

    def options(self, threads: int) -> list[str]:
        """Return the options of `tttkit train` for this run."""
        choices = self._choices()
        model = ["--model", choices.model] if choices.model else []
        return [
            "train",
            *([str(choices.file)] if choices.file else []),
            *("--preset", str(choices.preset)),
            *(["--data", str(choices.data)] if choices.data else []),
            *model,
            *("--out", str(self.run.path), "--threads", str(threads), "--quiet"),
            *(part for assignment in choices.assignments for part in ("--set", assignment)),
        ]

    def config(self) -> Config:
        """Return the configuration of the run. Raises UsageError for values that no run takes."""
        try:
            return build_config(merge_layers(collect_layers(self._choices())))
        except TttkitError as error:
            values = ", ".join(f"{key} = {value}" for key, value in self.setting.values.items())
            raise UsageError(f"the setting {values}: {error}", hint=error.hint) from error

    def _choices(self) -> Choices:
        values = {**self.study.fixed, **self.setting.values, SEED_KEY: self.seed}
        model = values.pop(MODEL_KEY, None)
        preset = values.pop(PRESET_KEY, self.study.base)
        return Choices(
            file=Path(self.study.config) if self.study.config else None,
            preset=preset,
            data=Path(self.study.data) if self.study.data else None,
            model=model,
            assignments=tuple(f"{key}={toml_value(value)}" for key, value in values.items()),
        )


def trials_of(study: Study, directory: Path, setting: Setting) -> list[Trial]:
    """Return the trials of a setting, one for each seed."""
    return [Trial(study, directory, setting, seed) for seed in study.seeds]
