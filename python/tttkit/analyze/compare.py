"""Compare runs at equal tokens: what differs, which numbers may be compared, and how certain the differences are."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from typing import Any

import numpy as np

from tttkit.analyze.by_bytes import bits_per_byte, only_tokenizers_differ
from tttkit.analyze.compared_settings import _settings, config_differences, protocol_differences
from tttkit.analyze.full_evaluations import best_model_rows, dynamic_rows
from tttkit.analyze.paired import Pairs, pair, ratio_rows, verdict_rows
from tttkit.analyze.record import Record, RecordedEvaluation
from tttkit.analyze.trend import geometric_mean
from tttkit.analyze.winner import best_context
from tttkit.errors import UsageError
from tttkit.results.contexts import windowed_contexts

_REFUSED = "refused"
_PAST = "of them before the run"
"""Heading of the training tokens of the weights that a run started with."""
_SAME_TOKENS = 0.05
"""Largest share by which the tokens of two evaluations may differ to count as equal."""
NO_EQUAL_TOKENS = (
    "Equal tokens: the runs have no evaluations within 5 % of the same tokens, or a run did not record its tokens or "
    "those of its past."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Tables of the comparison, whose rows are plain values."""

    runs: tuple[str, ...]
    config_differences: tuple[dict[str, Any], ...]
    protocol_differences: tuple[dict[str, Any], ...]
    """Settings of the protocol that differ, with the numbers that are refused (None for none) and the reason."""
    equal_tokens: tuple[dict[str, Any], ...]
    """Every run at the largest number of tokens at which all were evaluated; empty if there is no such number."""
    end: tuple[dict[str, Any], ...]
    paired: tuple[dict[str, Any], ...]
    """Every context of every run compared with the first run's full context, at equal tokens if they are known."""
    verdicts: tuple[dict[str, Any], ...]
    """Whether the first run's full context is better than every context of each further run, at each label."""
    seeds: tuple[dict[str, Any], ...]
    """Runs that differ only in their seed: mean and 95 % interval of each figure."""
    best_models: tuple[dict[str, Any], ...]
    """Every context of the best models, `dynamic` too, compared with the first one's full context, if `tttkit eval`
    measured all of them."""
    dynamic: tuple[dict[str, Any], ...]
    """A row per run and weights that were measured in `dynamic`: its settings and figures."""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
        return dataclasses.asdict(self)


# Figures near the largest float64 overflow to infinity, which is shown as such.
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def compare(records: list[Record]) -> Comparison:
    """Compare at least two runs; the first is the reference. Raises UsageError for fewer."""
    if len(records) < 2:
        raise UsageError("at least two runs are needed for a comparison", hint="`tttkit compare RUN RUN…`")
    names = _names(records)
    protocol = protocol_differences(records, names)
    refused = {row["setting"] for row in protocol if row["refused"]}
    last = [record.evaluations[-1] for record in records]
    by_bytes = only_tokenizers_differ([evaluation.summary for evaluation in last])
    equal = _at_equal_tokens(records)
    pairs = _pairs(records, names, equal or last, refused)
    labels = _labels(last)
    tables = [
        tuple(_row(*item, labels, refused, by_bytes) for item in zip(names, records, chosen, strict=True))
        for chosen in (equal, last)
        if chosen
    ]
    return Comparison(
        runs=names,
        config_differences=config_differences(records, names),
        protocol_differences=protocol,
        equal_tokens=tables[0] if equal else (),
        end=tables[-1],
        paired=tuple(ratio_rows(pairs)),
        verdicts=tuple(verdict_rows(pairs, names[0])),
        seeds=_seeds(records, names),
        best_models=tuple(best_model_rows(records, names)),
        dynamic=tuple(
            {"run": name, **row} for name, record in zip(names, records, strict=True) for row in dynamic_rows(record)
        ),
    )


def _labels(evaluations: list[RecordedEvaluation]) -> list[int]:
    """Return the labels m at which any of the evaluations has a perplexity."""
    return sorted({multiple for item in evaluations for multiple in item.summary.labels()})


def _names(records: list[Record]) -> tuple[str, ...]:
    """Return the names of the runs, or their paths if two have the same name."""
    names = [record.name for record in records]
    return tuple(str(record.path) if names.count(record.name) > 1 else record.name for record in records)


def _at_equal_tokens(records: list[Record]) -> list[RecordedEvaluation]:
    """Return one evaluation per run, at the most tokens at which all have one after step 0; empty if there is none."""
    first, *others = records
    if any(record.axis != "tokens" or record.past_tokens is None for record in records):
        return []
    for reference in reversed(first.evaluations):
        wanted = first.total_tokens(reference) or 0
        nearest = [min(each.evaluations, key=partial(_distance, each, wanted)) for each in others]
        pairs = zip(others, nearest, strict=True)
        if wanted and all(_distance(each, wanted, item) <= _SAME_TOKENS * wanted for each, item in pairs):
            return [reference, *nearest]
    return []


def _distance(record: Record, tokens: int, evaluation: RecordedEvaluation) -> int:
    return abs((record.total_tokens(evaluation) or 0) - tokens)


def _row(
    name: str, record: Record, evaluation: RecordedEvaluation, labels: list[int], refused: set[str], by_bytes: bool
) -> dict[str, Any]:
    """Return the figures of one evaluation; a figure that the protocols do not allow to compare is `refused`.

    With `by_bytes`, figures of the same text in other tokens are bits per byte.
    """
    no_labels = bool(refused & {"aggregate", "chunk_size", "chunk_stride"})
    other_text = "data_fingerprint" in refused and not by_bytes
    no_selection = bool(refused & {"data_fingerprint", "chunk_size", "training_window", "selection_windows"})
    summary = evaluation.summary
    row: dict[str, Any] = {
        "run": name, "model": record.model, "W": record.window, "step": evaluation.step,
        "tokens": record.total_tokens(evaluation), _PAST: _past(record),
        "selection_ppl": _allowed(summary.selection_ppl, no_selection),
    }  # fmt: skip
    unit = " bits/byte" if by_bytes else ""
    for multiple in labels:
        full = bits_per_byte(summary, "full", multiple) if by_bytes else summary.perplexity("full", multiple)
        row[f"full {multiple}xW{unit}"] = _allowed(full, no_labels or other_text)
        if multiple > 1:
            best = _best_windowed(evaluation, multiple, by_bytes)
            row[f"best windowed {multiple}xW{unit}"] = _allowed(best, no_labels or other_text)
    return row


def _past(record: Record) -> int | str | None:
    """Return the tokens of the past, `unknown`, or None for a run that started from initial weights."""
    return "unknown" if record.past_tokens is None else record.past_tokens or None


def _allowed(value: Any, is_refused: bool) -> Any:
    return _REFUSED if is_refused and value is not None else value


def _best_windowed(evaluation: RecordedEvaluation, multiple: int, by_bytes: bool) -> str | None:
    """Return figure and name of the best windowed context at a label."""
    figures = {name: evaluation.summary.perplexity(name, multiple) for name in windowed_contexts()}
    known = {name: value for name, value in figures.items() if value is not None}
    best = best_context(known)
    if best is None:
        return None
    bits = bits_per_byte(evaluation.summary, best, multiple)
    return f"{bits:.4f} ({best})" if by_bytes and bits is not None else f"{known[best]:,.2f} ({best})"


def _pairs(records: list[Record], names: tuple[str, ...], chosen: list[RecordedEvaluation], refused: set[str]) -> Pairs:
    """Compare every run's contexts with the first run's full context, if the protocols allow pairs."""
    window = records[0].window
    if refused - {"selection_windows"} or window is None:
        return {}
    return pair(dict(zip(names, (evaluation.sequences() for evaluation in chosen), strict=True)), window)


def _seeds(records: list[Record], names: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    groups: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        settings = {key: value for key, value in _settings(record).items() if key != "train.seed"}
        settings |= {"past_tokens": record.past_tokens} if record.past_tokens != 0 and settings else {}
        groups.setdefault(json.dumps(settings, sort_keys=True) if settings else str(index), []).append(index)
    rows = []
    for members in groups.values():
        if len(members) < 2:
            continue
        row: dict[str, Any] = {"runs": ", ".join(names[index] for index in members), "seeds": len(members)}
        last = [records[index].evaluations[-1] for index in members]
        row["selection_ppl"] = _interval([item.summary.selection_ppl for item in last])
        for multiple in _labels(last):
            row[f"full {multiple}xW"] = _interval([item.summary.perplexity("full", multiple) for item in last])
        rows.append(row)
    return tuple(rows)


def _interval(values: list[float | None]) -> str | None:
    """Return the geometric mean over seeds with its 95 % t-interval; None for fewer than two values."""
    mean, interval = geometric_mean(values)
    return None if interval is None else f"{mean:,.2f} [{interval[0]:,.2f}, {interval[1]:,.2f}]"
