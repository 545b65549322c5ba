"""Runs with made-up numbers for exports."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from pathlib import Path

from tttkit.run.directory import RunDirectory
from tttkit.storage.files import json_safe

RUN_ID = "0123456789abcdef"


def make_run(path: Path, *, steps: Iterable[int], evaluated: Iterable[int] = ()) -> RunDirectory:
    """Make an unfinished run that logged `steps` and evaluated after some."""
    path.mkdir(parents=True)
    run = RunDirectory(path)
    metadata = {"schema_version": 2, "run_id": RUN_ID, "config": {"train": {"window": 16}}, "segments": []}
    run.metadata.write_text(json.dumps(metadata))
    add_steps(run, steps)
    evaluations = [
        {
            "schema_version": 1, "checkpoint_idx": index, "step": step, "training_window": 16,
            "selection_ppl": 20.0 + step,
            "ttt_ppl_at_1xW": 20.0 + step, "ttt_ppl_at_2xW": 30.0, "sw_ppl_at_1xW": 20.0, "sw_ppl_at_2xW": 33.0,
            "ratio_at_2xW": 1.1, "ratio_ci_low_at_2xW": 0.9, "ratio_ci_high_at_2xW": 1.3,
        }
        for index, step in enumerate(evaluated)
    ]  # fmt: skip
    run.summaries.write_text(json.dumps(evaluations))
    return run


def add_steps(run: RunDirectory, steps: Iterable[int], *, loss: float | None = None, lr: float = 1e-3) -> None:
    """Log steps, as a resumed run does."""
    with run.metrics.open("a") as file:
        for step in steps:
            time = datetime.datetime.fromtimestamp(1000 + step, datetime.UTC).isoformat()
            record = {
                "step": step, "loss": 2.0 / step if loss is None else loss, "lr": lr, "inner_loss_before": [1.0, 0.5],
                "time": time,
            }  # fmt: skip
            file.write(json.dumps(json_safe(record)) + "\n")


def finish(run: RunDirectory) -> None:
    """Record the end of a run."""
    metadata = json.loads(run.metadata.read_text())
    run.metadata.write_text(json.dumps({**metadata, "result": {"reason": "finished"}}))
