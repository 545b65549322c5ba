"""Tables that more than one command shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from tttkit.analyze.winner import FEWEST_SEQUENCES, NO_WINNER, name_winner, ratios_of_summary
from tttkit.results.contexts import contexts_to_show
from tttkit.results.summary import Summary
from tttkit.results.values import number
from tttkit_cli.console import width_of
from tttkit_cli.views.units import perplexity, sparkline

_FEWER_CONTEXTS = ("full", "sw", "reset")


def evaluation_table(summary: Summary, *, width: int | None = None) -> Table:
    """Return a table of one evaluation: each context at each label, and the ratio SW/full with its 95 % interval.

    If that needs more columns than `width`, the table leaves out the interval and sw_aligned, and if it is still too
    wide it shows only full and sw, in 40 columns. The evaluation has a step if it is from a run, and a path if it is
    from `tttkit eval checkpoint`.
    """
    contexts = contexts_to_show(summary.contexts())
    table = _evaluation_table(summary, contexts, interval=True)
    if width is None or width_of(table) <= width:
        return table
    table = _evaluation_table(summary, _FEWER_CONTEXTS, interval=False)
    return table if width_of(table) <= width else _narrow_table(summary)


def _evaluation_table(summary: Summary, contexts: Sequence[str], *, interval: bool) -> Table:
    """Return the table of these contexts, with the winner and the ratio, and its interval if `interval` is set."""
    table = _titled(summary)
    table.add_column("position")
    for context in contexts:
        table.add_column(context, justify="right")
    table.add_column("SW/full [95 %]" if interval else "SW/full", justify="right")
    table.add_column("better (95 %)")
    for multiple in summary.labels():
        figures = [_figure(summary.perplexity(context, multiple)) for context in contexts]
        ratio = _interval(summary, multiple) if interval else _ratio(summary, multiple)
        table.add_row(f"{multiple} x W", *figures, ratio, _better(summary, multiple))
    return table


def _narrow_table(summary: Summary) -> Table:
    table = _titled(summary)
    for head in ("at", "full", "sw", "SW/full"):
        table.add_column(head, justify="right")
    for multiple in summary.labels():
        figures = [perplexity(summary.perplexity(context, multiple)) for context in ("full", "sw")]
        table.add_row(f"{multiple}xW", *figures, _ratio(summary, multiple))
    return table


def _titled(summary: Summary) -> Table:
    where = f"at step {summary.step:,}" if summary.step is not None else f"of {summary.get('path', 'a run')}"
    # The earlier system did not always record the number of sequences.
    if summary.num_sequences:
        where += f", n = {summary.num_sequences} sequence{'s' * (summary.num_sequences > 1)}"
        if summary.num_sequences < FEWEST_SEQUENCES:
            where += f" (too few to name a winner, which takes {FEWEST_SEQUENCES})"
    has_bos = summary.get("has_bos")
    if isinstance(has_bos, bool):
        where += ", BOS in front" if has_bos else ", no BOS in front"
    return Table(title=escape(f"perplexity by context {where}"), title_justify="left")


def _better(summary: Summary, multiple: int) -> str:
    """Return the context that wins by the rule of the protocol."""
    ratios = [] if multiple == 1 else ratios_of_summary(summary, multiple)
    if not ratios:
        return "-"
    return {"full": "[ok]full[/]", NO_WINNER: "no difference"}.get(winner := name_winner(ratios), winner)


def _ratio(summary: Summary, multiple: int) -> str:
    ratio = summary.ratio("sw", multiple).value
    return "-" if ratio is None else f"{ratio:.3f}"


def _interval(summary: Summary, multiple: int) -> str:
    if multiple == 1:
        return "equal by construction"
    ratio = summary.ratio("sw", multiple)
    if ratio.value is None:
        return "-"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.3f} (no interval)"
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def whole_split_table(summaries: Sequence[Summary]) -> Table:
    """Return a row per model: every token of the split scored once, with counts, then each context beyond W."""
    table = Table(title="whole split, each token scored once, with a fresh state every W tokens", title_justify="left")
    table.add_column("model")
    contexts = contexts_to_show({name for summary in summaries for name in summary.contexts()})
    names = ("token PPL", "word PPL", "bits/byte", "tokens", "words", "bytes", "stride")
    for name in (*names, *(f"{context} beyond W" for context in contexts)):
        table.add_column(name, justify="right")
    for summary in summaries:
        whole = summary.get("whole_split")
        # An evaluation along a run does not score the whole split.
        if not isinstance(whole, dict):
            continue
        figures = [_figure(number(whole[key])) for key in ("token_ppl", "word_ppl")]
        counts = [f"{whole[key]:,}" for key in ("num_tokens", "num_words", "num_bytes", "stride")]
        beyond = [_figure(summary.corpus(context)) for context in contexts]
        name = escape(f"{summary.model} {summary.get('path', '')}")
        table.add_row(name, *figures, f"{whole['bits_per_byte']:.4f}", *counts, *beyond)
    return table


def models_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return a table with the perplexity of several models in every context at every label."""
    table = Table(title="perplexity by model, context and position", title_justify="left")
    for head in rows[0]:
        table.add_column(head, justify="left" if head in ("model", "context") else "right")
    for row, is_last in _with_last_of_group(rows):
        name, context, *figures = row.values()
        table.add_row(escape(name), context, *(_figure(value) for value in figures), end_section=is_last)
    return table


def ratios_table(rows: Sequence[dict[str, Any]], first: str) -> Table:
    """Return a table of perplexity ratios to the full context of the first model, with intervals."""
    title = (
        f"ratio to the full context of {first}, paired by sequence, 95 % "
        f"(above 1 {first} is better; > and < mark significant ratios)"
    )
    table = Table(title=escape(title), title_justify="left")
    for head in rows[0]:
        table.add_column(head.replace("xW", " x W"))
    for row, is_last in _with_last_of_group(rows):
        name, context, *cells = row.values()
        table.add_row(escape(name), context, *(cell or "-" for cell in cells), end_section=is_last)
    return table


def _with_last_of_group(rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], bool]]:
    """Return each row, and whether it is the last one of its model, which the first column names."""
    names = [next(iter(row.values())) for row in rows]
    return [(row, names[index : index + 2] != [names[index]] * 2) for index, row in enumerate(rows)]


def slots_table(summary: Summary) -> Table | None:
    """Return a table of NLL beyond W by slot of the inner mini-batch (the phase bias); None without inner mini-batches.

    Exact `sw` always scores the last slot, so its row shows only the text and is subtracted from the others.
    """
    by_context = summary.get("nll_by_slot")
    size = summary.mini_batch_size or 1
    if not isinstance(by_context, dict) or size < 2:
        return None
    text = by_context.get("sw") or []
    has_text = len(text) == size and None not in text
    title = f"NLL by slot of {size} beyond W{' minus sw' if has_text else ''}, nats"
    table = Table(title=title, title_justify="left")
    table.add_column("context")
    for head in ("first slot", "best slot", "last slot"):
        table.add_column(head, justify="right")
    table.add_column(f"slots 1 … {size}")
    for context, means in by_context.items():
        if None in means or not means or (has_text and context == "sw"):
            continue
        values = [mean - text[slot] if has_text else mean for slot, mean in enumerate(means)]
        best = min(range(size), key=lambda slot: values[slot])
        table.add_row(
            context, f"{values[0]:+.4f}", f"{values[best]:+.4f} ({best + 1})", f"{values[-1]:+.4f}", sparkline(values)
        )
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"
