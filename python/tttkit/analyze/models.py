"""Several evaluated models side by side: every context of each, and its ratio to the first one's full context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tttkit.analyze.compare import ratios
from tttkit.analyze.contest import PREFIXES, WINDOWED
from tttkit.analyze.legacy import LABELS
from tttkit.analyze.record import number, read_sequences

_SAME = ("data_fingerprint", "split", "training_window", "chunk_size", "chunk_stride", "aggregate")
"""Keys of summary.json that must agree before perplexities of two models are set side by side."""


def contexts_of(summary: dict[str, Any]) -> tuple[str, ...]:
    """Contexts that differ: for attention, whose inner mini-batch is one token, sw_aligned is sw."""
    return tuple(name for name in PREFIXES if name != "sw_aligned" or summary.get("mini_batch_size") != 1)


def side_by_side(named: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Perplexity of each model in each context at each label, and beyond W; rows of equal keys."""
    labels = [multiple for multiple in LABELS if any(f"ttt_ppl_at_{multiple}xW" in summary for _, summary in named)]
    return [
        {
            "model": name, "context": context,
            **{f"{m} x W": number(summary.get(f"{PREFIXES[context]}_ppl_at_{m}xW")) for m in labels},
            "beyond W": number(summary.get(f"{PREFIXES[context]}_ppl_corpus")),
        }
        for name, summary in named
        for context in contexts_of(summary)
    ]  # fmt: skip


def paired(named: list[tuple[str, dict[str, Any]]], directories: list[Path]) -> list[dict[str, Any]]:
    """Ratio to the first model's full context at each label, paired by sequence, 95 %; what other text has is left out.

    Raises DataError when a file is damaged.
    """
    loaded = [read_sequences(directory) for directory in directories]
    first, reference = loaded[0], named[0][1]
    if first is None:
        return []
    rows = []
    for index, ((name, summary), found) in enumerate(zip(named, loaded, strict=True)):
        if found is None or differences(reference, summary) or not found.same_text(first):
            continue
        rows += [
            {"model": name, "context": context, **ratios(first, found, context, int(reference["training_window"]))}
            for context in contexts_of(summary)
            if (index, context) != (0, "full") and context in ("full", *WINDOWED)
        ]
    return rows


def differences(reference: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    """Names of the settings that make the figures of two evaluations incomparable."""
    return [key for key in _SAME if reference.get(key) != summary.get(key)]
