"""Evaluations of a run's best and final weights by `tttkit eval`, beside those that training made along the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tttkit.analyze.dynamic import dynamic_settings
from tttkit.analyze.models import paired
from tttkit.analyze.record import Record, RecordedEvaluation
from tttkit.results.figures import Ratio
from tttkit.results.summary import SUMMARY_NAME, Summary

_DIRECTORIES = {"best_model": "eval_best_model", "final_model": "eval_final_model"}
"""Where `eval run` and `eval checkpoint` write by default, by the weights."""


def full_evaluations(record: Record) -> dict[str, RecordedEvaluation]:
    """Return the evaluations by the name of the weights. Raises DataError when a file is damaged."""
    directories = {name: record.path / folder for name, folder in _DIRECTORIES.items()}
    return {
        name: RecordedEvaluation(summary=Summary.read(directory / SUMMARY_NAME), directory=directory)
        for name, directory in directories.items()
        if (directory / SUMMARY_NAME).is_file()
    }


def dynamic_rows(record: Record) -> list[dict[str, Any]]:
    """Return a row per evaluation of a run that has the context `dynamic`: its settings, and figures by label."""
    evaluations = {"last evaluation of the run": record.evaluations[-1], **full_evaluations(record)}
    measured = {name: each.summary for name, each in evaluations.items() if "dynamic" in each.summary.contexts()}
    labels = sorted({multiple for summary in measured.values() for multiple in summary.labels() if multiple > 1})
    return [
        {
            "weights": name,
            "steps": dynamic_settings(summary),
            **{key: value for m in labels for key, value in _figures(summary, m).items()},
        }
        for name, summary in measured.items()
    ]


def best_model_rows(records: Sequence[Record], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the paired ratios of the best models to the first one's full context, if all were evaluated in full."""
    found = [full_evaluations(record).get("best_model") for record in records]
    evaluations = [each for each in found if each is not None]
    if len(evaluations) < len(records):
        return []
    named = [(name, each.summary) for name, each in zip(names, evaluations, strict=True)]
    return paired(named, [each.directory for each in evaluations])


def _figures(summary: Summary, multiple: int) -> dict[str, Any]:
    label = f"{multiple}xW"
    figures = {f"{context} {label}": summary.perplexity(context, multiple) for context in ("full", "dynamic")}
    return {**figures, f"dynamic/full {label}": _text(summary.ratio("dynamic", multiple))}


def _text(ratio: Ratio) -> str | None:
    if ratio.value is None:
        return None
    return f"{ratio.value:.3f}" + ("" if ratio.low is None else f" [{ratio.low:.3f}, {ratio.high:.3f}]")
