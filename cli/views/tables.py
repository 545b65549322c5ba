"""Tables that more than one command shows."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from tttkit.analyze.contest import PREFIXES, contests_of_summary, judge, ratio_of
from tttkit_cli.console import width_of
from tttkit_cli.views.units import perplexity, sparkline


def evaluation_table(summary: dict[str, Any], *, width: int | None = None) -> Table:
    """Perplexity of every context at every label of one evaluation, with the ratio SW/full and its 95 % interval.

    Where that needs more columns than `width`, without the interval and `sw_aligned`; else full and sw alone, in 40.

    `summary` is a summary.json of a run, which has a step, or of `tttkit eval checkpoint`, which has a path.
    """
    whole = _evaluation_table(summary, tuple(PREFIXES), interval=True)
    if width is None or width_of(whole) <= width:
        return whole
    less = _evaluation_table(summary, ("full", "sw", "reset"), interval=False)
    return less if width_of(less) <= width else _least_table(summary)


def _evaluation_table(summary: dict[str, Any], contexts: tuple[str, ...], *, interval: bool) -> Table:
    """The ratio with its interval and the winner, or the ratio alone and the winner."""
    table = _titled(summary)
    table.add_column("position")
    for context in contexts:
        table.add_column(context, justify="right")
    table.add_column("SW/full [95 %]" if interval else "SW/full", justify="right")
    table.add_column("better (95 %)")
    for label in _labels(summary):
        figures = [_figure(summary.get(f"{PREFIXES[context]}_ppl_at_{label}")) for context in contexts]
        ratio = _interval(summary, label) if interval else _ratio(summary, label)
        table.add_row(label.replace("xW", " x W"), *figures, ratio, _better(summary, label))
    return table


def _least_table(summary: dict[str, Any]) -> Table:
    table = _titled(summary)
    for head in ("at", "full", "sw", "SW/full"):
        table.add_column(head, justify="right")
    for label in _labels(summary):
        figures = [perplexity(summary.get(f"{PREFIXES[context]}_ppl_at_{label}")) for context in ("full", "sw")]
        table.add_row(label, *figures, _ratio(summary, label))
    return table


def _titled(summary: dict[str, Any]) -> Table:
    where = f"at step {summary['step']:,}" if summary.get("step") is not None else f"of {summary.get('path', 'a run')}"
    if summary.get("num_sequences"):  # the earlier system did not always count them
        where += f", n = {summary['num_sequences']} sequences"
    return Table(title=escape(f"perplexity by context {where}"), title_justify="left")


def _labels(summary: dict[str, Any]) -> list[str]:
    return [key.removeprefix("ttt_ppl_at_") for key in summary if key.startswith("ttt_ppl_at_")]


def _better(summary: dict[str, Any], label: str) -> str:
    """The context that wins by the rule of the protocol."""
    found = [] if label == "1xW" else contests_of_summary(summary, int(label.removesuffix("xW")))
    if not found:
        return "-"
    return {"full": "[ok]full[/]", "none": "no difference"}.get(winner := judge(found), winner)


def _ratio(summary: dict[str, Any], label: str) -> str:
    ratio = ratio_of(summary, label)
    return "-" if ratio is None else f"{ratio:.3f}"


def whole_split_table(summaries: list[dict[str, Any]]) -> Table:
    """Models side by side: every token of the split scored once, with counts; then each context beyond the window."""
    table = Table(title="whole split, each token scored once with a fresh state every W tokens", title_justify="left")
    table.add_column("model")
    names = ("token PPL", "word PPL", "bits/byte", "tokens", "words", "bytes", "stride")
    for name in (*names, *(f"{context} beyond W" for context in PREFIXES)):
        table.add_column(name, justify="right")
    for summary in summaries:
        whole = summary.get("whole_split")
        if not isinstance(whole, dict):  # an evaluation along a run does not score the whole split
            continue
        figures = [_figure(whole[key]) for key in ("token_ppl", "word_ppl")]
        counts = [f"{whole[key]:,}" for key in ("num_tokens", "num_words", "num_bytes", "stride")]
        beyond = [_figure(summary.get(f"{prefix}_ppl_corpus")) for prefix in PREFIXES.values()]
        name = escape(f"{summary.get('model')} {summary.get('path', '')}")
        table.add_row(name, *figures, f"{whole['bits_per_byte']:.4f}", *counts, *beyond)
    return table


def models_table(rows: list[dict[str, Any]]) -> Table:
    """Perplexity of several models in every context at every label."""
    table = Table(title="perplexity by model, context and position", title_justify="left")
    for head in rows[0]:
        table.add_column(head, justify="left" if head in ("model", "context") else "right")
    for row in rows:
        name, context, *figures = row.values()
        table.add_row(escape(name), context, *(_figure(value) for value in figures), end_section=context == "reset")
    return table


def ratios_table(rows: list[dict[str, Any]], first: str) -> Table:
    """Ratios of perplexities to the full context of the first model, with intervals."""
    title = (
        f"ratio to the full context of {first}, paired by sequence, 95 % (above 1 {first} is better; > and <: surely)"
    )
    table = Table(title=escape(title), title_justify="left")
    for head in rows[0]:
        table.add_column(head.replace("xW", " x W"))
    for row in rows:
        name, context, *cells = row.values()
        table.add_row(escape(name), context, *(cell or "-" for cell in cells), end_section=context == "reset")
    return table


def slots_table(summary: dict[str, Any]) -> Table | None:
    """NLL beyond W by slot of the inner mini-batch: the phase bias. None for a model without inner mini-batches.

    Exact `sw` scores the last slot always; what it shows over slots is the text alone, and is taken off the others.
    """
    found = summary.get("nll_by_slot")
    size = summary.get("mini_batch_size") or 1
    if not isinstance(found, dict) or size < 2:
        return None
    text = found.get("sw") or []
    known = len(text) == size and None not in text
    title = f"NLL by slot of {size} beyond W{' less sw' if known else ''}, nats"
    table = Table(title=title, title_justify="left")
    table.add_column("context")
    for head in ("first slot", "best slot", "last slot"):
        table.add_column(head, justify="right")
    table.add_column(f"slots 1 … {size}")
    for context, means in found.items():
        if None in means or not means or (known and context == "sw"):
            continue
        values = [mean - text[slot] if known else mean for slot, mean in enumerate(means)]
        best = min(range(size), key=lambda slot: values[slot])
        table.add_row(
            context, f"{values[0]:+.4f}", f"{values[best]:+.4f} ({best + 1})", f"{values[-1]:+.4f}", sparkline(values)
        )
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _interval(summary: dict[str, Any], label: str) -> str:
    if label == "1xW":
        return "equal by construction"
    low, high = (summary.get(f"ratio_ci_{end}_at_{label}") for end in ("low", "high"))
    ratio = _ratio(summary, label)
    if ratio == "-":
        return ratio
    return f"{ratio} (no interval)" if low is None or high is None else f"{ratio} [{low:.3f}, {high:.3f}]"
