"""Rows for trackers: all values of one training step, read from the files of a run."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tttkit.errors import UsageError
from tttkit.results.contexts import CONTEXTS
from tttkit.results.summary import Summary
from tttkit.run.directory import RunDirectory


@dataclasses.dataclass(frozen=True)
class Row:
    """All values of one step: `train/…` from metrics.jsonl, `eval/…` from all_summaries.json."""

    step: int
    time: float
    """Seconds since 1970 at which the step was logged; that of the next logged step if only an evaluation was."""
    values: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Recorded:
    """What a run has recorded so far."""

    rows: list[Row]
    """Ascending by step."""
    num_final: int
    """Number of first rows that the run adds nothing to: all rows once it has ended, else all but the last."""
    figures: list[Path]
    """The PNG files in the run directory, by name."""

    @property
    def final(self) -> list[Row]:
        """Return the rows that the run adds nothing to."""
        return self.rows[: self.num_final]


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """What trackers show about a run besides its values."""

    run_id: str
    name: str
    """Name of the run directory."""
    config: dict[str, Any]
    """The resolved configuration, by section."""


def read_facts(run: RunDirectory) -> RunFacts:
    """Read id, name and configuration of a run. Raises UsageError for a run without an id, DataError if damaged."""
    metadata = run.read_metadata()
    run_id = metadata.get("run_id")
    if not isinstance(run_id, str):
        raise UsageError(f"{run.path} has no run id, so it cannot be exported", hint="only runs of tttkit have one")
    return RunFacts(run_id=run_id, name=run.path.resolve().name, config=metadata.get("config", {}))


def read_rows(run: RunDirectory) -> Recorded:
    """Read everything that a run has recorded. Raises DataError if a file is damaged."""
    # The result is read first: a row is final only if it was read after the run had ended.
    has_ended = run.read_metadata().get("result") is not None
    records = {int(record["step"]): record for record in run.read_metrics()}
    values: dict[int, dict[str, float]] = {step: {} for step in records}
    for step, record in records.items():
        for key, value in record.items():
            if key not in ("step", "time"):
                values[step].update(_numbers(f"train/{key}", value))
    for summary in run.read_summaries():
        if summary.step is not None:
            values.setdefault(summary.step, {}).update(_evaluation(summary))
    steps = sorted(values)
    times = _times(steps, records)
    rows = [Row(step=step, time=times[step], values=values[step]) for step in steps]
    return Recorded(
        rows=rows, num_final=len(rows) if has_ended else max(len(rows) - 1, 0), figures=sorted(run.path.glob("*.png"))
    )


def _evaluation(summary: Summary) -> dict[str, float]:
    """Return the figures of an evaluation that are known."""
    values: dict[str, float | None] = {"selection_ppl": summary.selection_ppl}
    for name in summary.contexts():
        values[f"{name}/ppl"] = summary.corpus(name)
        for multiple in summary.labels():
            values[f"{name}/ppl_at_{multiple}xW"] = summary.perplexity(name, multiple)
            if CONTEXTS[name].is_windowed:
                ratio = summary.ratio(name, multiple)
                values[f"{name}/ratio_at_{multiple}xW"] = ratio.value
                values[f"{name}/ratio_at_{multiple}xW_low"] = ratio.low
                values[f"{name}/ratio_at_{multiple}xW_high"] = ratio.high
    return {f"eval/{key}": value for key, value in values.items() if value is not None}


def _numbers(key: str, value: Any) -> Iterator[tuple[str, float]]:
    """Yield the numbers in a value of metrics.jsonl; those of a list have their position in the key."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers(f"{key}/{index}", item)
    elif (isinstance(value, int | float) and not isinstance(value, bool)) or value in ("NaN", "Infinity", "-Infinity"):
        yield key, float(value)


def _times(steps: list[int], records: dict[int, dict[str, Any]]) -> dict[int, float]:
    """Return the time of each step; a step that was not logged has the time of the next one, or of the last one."""
    times: dict[int, float] = {}
    last = 0.0
    for step in [*steps[::-1], *steps]:
        with suppress(KeyError, ValueError, TypeError):
            last = datetime.datetime.fromisoformat(records[step]["time"]).timestamp()
        times[step] = times.get(step) or last
    return times
