"""Several runs side by side, on tokens: what differs, which numbers may be compared, and how surely they differ."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from tttkit.analyze.contest import WINDOWED
from tttkit.analyze.contexts import contest
from tttkit.analyze.legacy import LABELS
from tttkit.analyze.record import Checkpoint, Record, SequenceNll, number
from tttkit.analyze.trend import t_quantile
from tttkit.errors import UsageError

_PROTOCOL = {
    "data_fingerprint": ("all perplexities", "text or tokenizer differ"),
    "aggregate": ("perplexities at m x W", "one is a corpus perplexity, the other a median over sequences"),
    "chunk_size": ("perplexities at m x W and selection_ppl", "they average over other positions"),
    "chunk_stride": ("perplexities at m x W", "the chunk that stands for m x W is another"),
    "eval_max_length": ("paired intervals", "the sequences are cut elsewhere"),
    "num_sequences": ("paired intervals", "the sequences are not the same"),
    "sequence_choice": ("paired intervals", "the sequences are not the same"),
    "training_window": ("paired intervals and selection_ppl", "m x W is another position"),
}
"""Key of summary.json to the numbers that a difference makes incomparable, and why."""
_LEGACY_KEYS = {
    "training_window": "train.window", "max_train_steps": "train.max_steps", "seed": "train.seed",
    "per_device_train_batch_size": "train.batch_size", "gradient_accumulation_steps": "train.grad_accumulation",
    "learning_rate": "optimizer.learning_rate", "weight_decay": "optimizer.weight_decay",
    "warmup_ratio": "optimizer.warmup_ratio", "eval_max_length": "evaluation.max_length",
    "num_eval_checkpoints": "evaluation.num_checkpoints", "state_passing": "state_passing",
}  # fmt: skip
_REFUSED = "refused"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Tables of the comparison; rows are plain values."""

    runs: tuple[str, ...]
    config_differences: tuple[dict[str, Any], ...]
    protocol_differences: tuple[dict[str, Any], ...]
    """What differs in the protocol, which numbers that refuses, and why."""
    equal_tokens: tuple[dict[str, Any], ...]
    """Every run at the last tokens that all of them reached; empty where tokens are unknown."""
    end: tuple[dict[str, Any], ...]
    paired: tuple[dict[str, Any], ...]
    """Full context of each further run, and windowed contexts of the first, against the first run's full context."""
    seeds: tuple[dict[str, Any], ...]
    """Runs that differ in their seed only: mean and 95 % band of each figure."""

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return dataclasses.asdict(self)


def compare(records: list[Record]) -> Comparison:
    """Compare at least two runs, the first as the reference. Raises UsageError for fewer."""
    if len(records) < 2:
        raise UsageError("at least two runs are needed for a comparison", hint="`tttkit compare RUN RUN…`")
    names = _names(records)
    protocol = _protocol_differences(records, names)
    refused = {row["setting"] for row in protocol}
    last = [record.checkpoints[-1] for record in records]
    equal = _at_equal_tokens(records)
    tables = [
        tuple(_row(*item, refused) for item in zip(names, records, chosen, strict=True))
        for chosen in (equal, last)
        if chosen
    ]
    return Comparison(
        runs=names,
        config_differences=_config_differences(records, names),
        protocol_differences=protocol,
        equal_tokens=tables[0] if equal else (),
        end=tables[-1],
        paired=_paired(records, names, equal or last, refused),
        seeds=_seeds(records, names),
    )


def _names(records: list[Record]) -> tuple[str, ...]:
    """Names of the runs, by their path where two are called the same."""
    names = [record.name for record in records]
    return tuple(str(record.path) if names.count(record.name) > 1 else record.name for record in records)


def _settings(record: Record) -> dict[str, Any]:
    """The configuration under dotted keys."""
    if not record.config:
        return {ours: record.metadata[theirs] for theirs, ours in _LEGACY_KEYS.items() if theirs in record.metadata}
    return {
        f"{section}.{key}" if isinstance(values, dict) else section: value
        for section, values in record.config.items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def _config_differences(records: list[Record], names: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    settings = [_settings(record) for record in records]
    keys = dict.fromkeys(key for each in settings for key in each)
    rows = []
    for key in keys:
        values = [each.get(key, "not recorded") for each in settings]
        if len({json.dumps(value) for value in values}) > 1:
            rows.append({"setting": key, **dict(zip(names, values, strict=True))})
    return tuple(rows)


def _protocol_differences(records: list[Record], names: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    rows = []
    for key, (numbers, reason) in _PROTOCOL.items():
        values = [record.checkpoints[-1].summary.get(key) for record in records]
        if len(set(values)) > 1:
            shown = [_short(value) for value in values]
            rows.append({"setting": key, **dict(zip(names, shown, strict=True)), "refused": numbers, "because": reason})
    return tuple(rows)


def _short(value: Any) -> Any:
    return "not recorded" if value is None else value[:12] if isinstance(value, str) else value


def _at_equal_tokens(records: list[Record]) -> list[Checkpoint]:
    """Of every run the last checkpoint within the tokens that all reached; none where tokens are unknown."""
    if any(record.axis != "tokens" for record in records):
        return []
    shared = min(record.checkpoints[-1].tokens or 0 for record in records)
    return [[item for item in record.checkpoints if (item.tokens or 0) <= shared][-1] for record in records]


def _row(name: str, record: Record, checkpoint: Checkpoint, refused: set[str]) -> dict[str, Any]:
    """Figures of one checkpoint; those that the protocols do not allow to compare say so."""
    no_labels = bool(refused & {"data_fingerprint", "aggregate", "chunk_size", "chunk_stride"})
    no_selection = bool(refused & {"data_fingerprint", "chunk_size", "training_window"})
    selection = number(checkpoint.summary.get("selection_ppl"))
    row: dict[str, Any] = {
        "run": name, "model": record.model, "W": record.window, "step": checkpoint.step, "tokens": checkpoint.tokens,
        "selection_ppl": _REFUSED if no_selection and selection is not None else selection,
    }  # fmt: skip
    for multiple in (1, 2, 5, 10, 20):
        values = {context: checkpoint.perplexity(context, multiple) for context in ("full", *WINDOWED)}
        known = {name: value for name, value in values.items() if name != "full" and value is not None}
        best = min(known, key=lambda name: known[name], default=None)
        full = values["full"]
        row[f"full {multiple}xW"] = _REFUSED if no_labels and full is not None else full
        if multiple > 1:
            text = None if best is None else f"{known[best]:,.2f} ({best})"
            row[f"best windowed {multiple}xW"] = _REFUSED if no_labels and text is not None else text
    return row


def _paired(
    records: list[Record], names: tuple[str, ...], chosen: list[Checkpoint], refused: set[str]
) -> tuple[dict[str, Any], ...]:
    """Ratio of perplexities to the first run's full context at each label, paired by sequence."""
    if refused or any(record.window is None for record in records):
        return ()
    loaded = [checkpoint.sequences() for checkpoint in chosen]
    first, window = loaded[0], records[0].window
    if first is None or window is None:
        return ()
    rows = []
    for name, found in zip(names, loaded, strict=True):
        if found is None or not found.same_text(first):
            continue
        rows += [
            {"run": name, "context": context, **ratios(first, found, context, window)}
            for context in found.contexts
            if (name, context) != (names[0], "full")
        ]
    return tuple(rows)


def ratios(first: SequenceNll, found: SequenceNll, context: str, window: int) -> dict[str, str | None]:
    """PPL(found, context) / PPL(first, full) per label, with intervals; above 1 the first's full context is better."""
    cells: dict[str, str | None] = {}
    for multiple in LABELS:
        column = first.column(window, multiple)
        if column is None:
            continue
        differences = found.contexts[context][:, column] - first.contexts["full"][:, column]
        each = contest(context, differences, first.documents)
        mark = "" if each is None else {1: " >", -1: " <"}.get(each.sign, "")
        cells[f"{multiple}xW"] = None if each is None else each.text() + mark
    return cells


def _seeds(records: list[Record], names: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    groups: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        settings = {key: value for key, value in _settings(record).items() if key != "train.seed"}
        groups.setdefault(json.dumps(settings, sort_keys=True) if settings else str(index), []).append(index)
    rows = []
    for members in groups.values():
        if len(members) < 2:
            continue
        row: dict[str, Any] = {"runs": ", ".join(names[index] for index in members), "seeds": len(members)}
        last = [records[index].checkpoints[-1] for index in members]
        row["selection_ppl"] = _band([number(item.summary.get("selection_ppl")) for item in last])
        for multiple in (1, 2, 5, 10, 20):
            row[f"full {multiple}xW"] = _band([item.perplexity("full", multiple) for item in last])
        rows.append(row)
    return tuple(rows)


def _band(values: list[float | None]) -> str | None:
    """Geometric mean over seeds with its 95 % t-interval."""
    logs = np.log([value for value in values if value])
    if logs.size < 2:
        return None
    reach = t_quantile(logs.size - 1) * logs.std(ddof=1) / np.sqrt(logs.size)
    mean, low, high = (float(np.exp(each)) for each in (logs.mean(), logs.mean() - reach, logs.mean() + reach))
    return f"{mean:,.2f} [{low:,.2f}, {high:,.2f}]"
