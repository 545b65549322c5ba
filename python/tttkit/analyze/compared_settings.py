"""Settings of runs and of their evaluations that differ."""

from __future__ import annotations

import json
from typing import Any

from tttkit.analyze.by_bytes import only_tokenizers_differ
from tttkit.analyze.dynamic import dynamic_differences
from tttkit.analyze.record import Record
from tttkit.run.parent import describe_parent

_PROTOCOL = {
    "data_fingerprint": ("all perplexities", "the text or the tokenizer differs"),
    "aggregate": ("perplexities at m x W", "one is a corpus perplexity, the other a median over sequences"),
    "chunk_size": ("perplexities at m x W and selection_ppl", "they average over different positions"),
    "chunk_stride": ("perplexities at m x W", "a different chunk stands for m x W"),
    "eval_max_length": ("paired intervals", "the sequences are cut at different places"),
    "selection_windows": ("selection_ppl", "it is computed from different windows"),
    "num_sequences": ("paired intervals", "the sequences are not the same"),
    "sequence_choice": ("paired intervals", "the sequences are not the same"),
    "training_window": ("paired intervals and selection_ppl", "m x W is a different position"),
}
"""By key of summary.json: the numbers that cannot be compared if the key differs, and the reason."""


_LEGACY_KEYS = {
    "training_window": "train.window", "max_train_steps": "train.max_steps", "seed": "train.seed",
    "per_device_train_batch_size": "train.batch_size", "gradient_accumulation_steps": "train.grad_accumulation",
    "learning_rate": "optimizer.learning_rate", "weight_decay": "optimizer.weight_decay",
    "warmup_ratio": "optimizer.warmup_ratio", "eval_max_length": "evaluation.max_length",
    "num_eval_checkpoints": "evaluation.num_checkpoints", "state_passing": "state_passing",
}  # fmt: skip


def _settings(record: Record) -> dict[str, Any]:
    """Return the configuration with dotted keys."""
    if not record.config:
        return {ours: record.metadata[theirs] for theirs, ours in _LEGACY_KEYS.items() if theirs in record.metadata}
    return {
        f"{section}.{key}" if isinstance(values, dict) else section: value
        for section, values in record.config.items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def config_differences(records: list[Record], names: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    """Return a row for each setting that differs between runs, with its value by the name of the run."""
    settings = [_settings(record) for record in records]
    keys = dict.fromkeys(key for each in settings for key in each)
    rows = []
    for key in keys:
        values = [each.get(key, "not recorded") for each in settings]
        if len({json.dumps(value) for value in values}) > 1:
            rows.append({"setting": key, **dict(zip(names, values, strict=True))})
    parents = [describe_parent(record.metadata) for record in records]
    if any(parents):
        rows.append({"setting": "parent", **dict(zip(names, (each or "none" for each in parents), strict=True))})
    return tuple(rows)


def protocol_differences(records: list[Record], names: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    """Return a row for each difference between evaluations: the numbers that it makes incomparable, and why."""
    rows = []
    by_bytes = only_tokenizers_differ([record.evaluations[-1].summary for record in records])
    for key, (numbers, reason) in _PROTOCOL.items():
        values = [record.evaluations[-1].summary.get(key) for record in records]
        if len(set(values)) > 1:
            shown = [_short(value) for value in values]
            if by_bytes and key == "data_fingerprint":
                reason = "the tokenizers differ: the tables show bits per byte of the same text"
            rows.append({"setting": key, **dict(zip(names, shown, strict=True)), "refused": numbers, "because": reason})
    return (*rows, *dynamic_differences([record.evaluations[-1].summary for record in records], names))


def _short(value: Any) -> Any:
    return "not recorded" if value is None else value[:12] if isinstance(value, str) else value
