"""Tables that more than one command shows."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

CONTEXTS = {"full": "ttt", "sw": "sw", "sw_aligned": "sw_aligned", "reset": "reset"}
"""Context and the prefix of its keys in summary.json, where `full` keeps the earlier system's name."""


def evaluation_table(summary: dict[str, Any], *, narrow: bool = False) -> Table:
    """Perplexity of every context at every label of one evaluation, with the ratio SW/full and its 95 % interval.

    Where it is `narrow`, for a terminal below 80 columns, full and sw alone, without the interval.

    `summary` is a summary.json of a run, which has a step, or of `tttkit eval checkpoint`, which has a path.
    """
    labels = [key.removeprefix("ttt_ppl_at_") for key in summary if key.startswith("ttt_ppl_at_")]
    where = f"at step {summary['step']:,}" if summary.get("step") is not None else f"of {summary.get('path', 'a run')}"
    if summary.get("num_sequences"):  # the earlier system did not always count them
        where += f", n = {summary['num_sequences']} sequences"
    table = Table(title=escape(f"perplexity by context {where}"), title_justify="left")
    contexts = ("full", "sw") if narrow else tuple(CONTEXTS)
    table.add_column("position")
    for context in contexts:
        table.add_column(context, justify="right")
    table.add_column("SW/full" if narrow else "SW/full [95 %]", justify="right")
    if not narrow:
        table.add_column("better (95 %)")
    for label in labels:
        figures = [_figure(summary.get(f"{CONTEXTS[context]}_ppl_at_{label}")) for context in contexts]
        cells = (
            [*figures, _ratio(summary, label)]
            if narrow
            else [*figures, _interval(summary, label), _better(summary, label)]
        )
        table.add_row(label.replace("xW", " x W"), *cells)
    return table


def _better(summary: dict[str, Any], label: str) -> str:
    """The context that wins: full over all three windowed ones, or a windowed one over full; intervals exclude 1."""
    if label == "1xW" or summary.get(f"ratio_ci_low_at_{label}") is None:
        return "-"
    bounds = {
        context: (summary.get(f"{prefix}ratio_ci_low_at_{label}"), summary.get(f"{prefix}ratio_ci_high_at_{label}"))
        for context, prefix in (("sw", ""), ("sw_aligned", "sw_aligned_"), ("reset", "reset_"))
    }
    known = {context: bound for context, bound in bounds.items() if None not in bound}
    if len(known) == len(bounds) and all(low > 1 for low, _ in known.values()):
        return "[ok]full[/]"
    winners = [context for context, (_, high) in known.items() if high < 1]
    return ", ".join(winners) or "no difference found"


def _ratio(summary: dict[str, Any], label: str) -> str:
    ratio = summary.get(f"ratio_at_{label}")
    return "-" if ratio is None else f"{ratio:.3f}"


def whole_split_table(summaries: list[dict[str, Any]]) -> Table:
    """Models side by side: every token of the split scored once, with counts; then each context beyond the window."""
    table = Table(title="whole split, each token scored once with a fresh state every W tokens", title_justify="left")
    table.add_column("model")
    names = ("token PPL", "word PPL", "bits/byte", "tokens", "words", "bytes", "stride")
    for name in (*names, *(f"{context} beyond W" for context in CONTEXTS)):
        table.add_column(name, justify="right")
    for summary in summaries:
        whole = summary.get("whole_split")
        if not isinstance(whole, dict):  # an evaluation along a run does not score the whole split
            continue
        figures = [_figure(whole[key]) for key in ("token_ppl", "word_ppl")]
        counts = [f"{whole[key]:,}" for key in ("num_tokens", "num_words", "num_bytes", "stride")]
        beyond = [_figure(summary.get(f"{prefix}_ppl_corpus")) for prefix in CONTEXTS.values()]
        name = escape(f"{summary.get('model')} {summary.get('path', '')}")
        table.add_row(name, *figures, f"{whole['bits_per_byte']:.4f}", *counts, *beyond)
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _interval(summary: dict[str, Any], label: str) -> str:
    if label == "1xW":
        return "equal by construction"
    ratio = summary.get(f"ratio_at_{label}")
    if ratio is None:
        return "-"
    low, high = summary[f"ratio_ci_low_at_{label}"], summary[f"ratio_ci_high_at_{label}"]
    return f"{ratio:.3f} [{low:.3f}, {high:.3f}]"
