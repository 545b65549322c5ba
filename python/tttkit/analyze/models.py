"""Compare evaluated models side by side: every context of each, and its ratio to the first model's full context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tttkit.analyze.paired import pair, ratio_rows
from tttkit.analyze.record import read_sequences
from tttkit.results.contexts import LABELS, contexts_to_show
from tttkit.results.summary import Summary

_SAME = ("data_fingerprint", "split", "training_window", "chunk_size", "chunk_stride", "aggregate")
"""Keys of summary.json that must agree before perplexities of two models are compared."""


def contexts_of(summary: Summary) -> list[str]:
    """Return the contexts that differ; for attention, whose inner mini-batch is one token, sw_aligned equals sw."""
    names = contexts_to_show(summary.contexts())
    return [name for name in names if name != "sw_aligned" or summary.mini_batch_size != 1]


def side_by_side(named: list[tuple[str, Summary]]) -> list[dict[str, Any]]:
    """Return rows of equal keys: the perplexity of each model in each context at each label, and beyond W."""
    labels = [multiple for multiple in LABELS if any(multiple in summary.labels() for _, summary in named)]
    return [
        {
            "model": name, "context": context,
            **{f"{multiple} x W": summary.perplexity(context, multiple) for multiple in labels},
            "beyond W": summary.corpus(context),
        }
        for name, summary in named
        for context in contexts_of(summary)
    ]  # fmt: skip


def paired(named: list[tuple[str, Summary]], directories: list[Path]) -> list[dict[str, Any]]:
    """Return the ratio of each model to the first model's full context at each label, paired by sequence, 95 %.

    Models that were evaluated on other text are left out. Raises DataError when a file is damaged.
    """
    reference = named[0][1]
    alike = [(name, summary, path) for (name, summary), path in zip(named, directories, strict=True)
             if not differences(reference, summary)]  # fmt: skip
    pairs = pair({name: read_sequences(path) for name, _, path in alike}, reference.window or 0)
    shown = {(name, context) for name, summary, _ in alike for context in contexts_of(summary)}
    return ratio_rows({key: ratios for key, ratios in pairs.items() if key in shown})


def differences(reference: Summary, summary: Summary) -> list[str]:
    """Return the names of the settings that make the figures of two evaluations incomparable."""
    return [key for key in _SAME if reference.get(key) != summary.get(key)]
