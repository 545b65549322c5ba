"""Run directories of trials, written without training."""

from __future__ import annotations

from tttkit.storage import files
from tttkit.sweep.trials import Trial


def write_run(trial: Trial, reason: str, objective: float = 1.0) -> None:
    """Write a run that ended for `reason` after 400 steps, with the same objective at every step."""
    config = trial.config().to_dict()
    segments = [{"started": "2026-01-01T00:00:00+00:00", "start_step": 0, "end_step": 400, "reason": reason}]
    values = {"schema_version": 2, "config": config, "segments": segments, "result": {"reason": reason, "step": 400}}
    trial.run.path.mkdir(parents=True)
    files.write_json(trial.run.metadata, values)
    files.write_json(trial.run.summaries, [{"step": step, "selection_ppl": objective} for step in range(401)])
