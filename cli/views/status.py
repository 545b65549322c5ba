"""The output of `tttkit status`: one run in full, several runs as a table."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tttkit.health.status import RunStatus
from tttkit.results.summary import Summary
from tttkit_cli.console import rows_of
from tttkit_cli.views.tables import evaluation_table
from tttkit_cli.views.units import duration, finish_time, perplexity, size, sparkline, speed

_COLOURS = {
    "running": "ok", "evaluating": "ok", "saving": "ok", "starting": "ok", "finished": "ok", "early-stopped": "ok",
    "preempted": "warning", "pruned": "warning", "stalled": "warning", "disk-full": "warning", "unknown": "warning",
}  # fmt: skip
_BAR_WIDTH = 20


def details(item: RunStatus, *, width: int | None) -> list[RenderableType]:
    """Return everything about one run in `width` columns, most important first: a short terminal cuts off the end."""
    parts: list[RenderableType] = [rows_of([(name, text) for name, text in _rows(item) if text])]
    latest = Summary(item.latest or {})
    if latest.labels():
        parts.append(evaluation_table(latest, width=width))
    return [*parts, *(Text(line, overflow="fold") for line in item.log)]


def overview(items: list[RunStatus]) -> Table:
    """Return a table with a row for each run; `troubles` explains the runs that need attention."""
    table = Table()
    for name in ("run", "status"):
        table.add_column(name, overflow="fold")
    for name in ("step", "loss", "best", "at", "SW/full [95 %]", "tok/s", "ETA", "saved"):
        table.add_column(name, justify="right")
    for item in items:
        advantage = item.advantage or {}
        table.add_row(
            escape(item.run), _status(item), _steps(item), "-" if item.loss is None else f"{item.loss:.3f}",
            perplexity(item.best_selection_ppl), advantage.get("label", "-").replace("xW", " x W"), _interval(item),
            "-" if not item.tokens_per_second else f"{item.tokens_per_second:,.0f}", duration(item.eta_seconds),
            duration(item.saved_seconds_ago),
        )  # fmt: skip
    return table


def troubles(items: list[RunStatus]) -> list[str]:
    """Return a line (markup) with the reason for each run that neither runs normally nor finished."""
    return [
        f"{escape(item.run)}: {_status(item)}: {escape(item.reason)}"
        for item in items
        if _COLOURS.get(item.state, "error") != "ok"
    ]


def screen(parts: list[RenderableType], note: str) -> Group:
    """Return the content of the alternate screen, with a note (markup) as its last line."""
    return Group(*parts, Text.from_markup(note))


def _rows(item: RunStatus) -> list[tuple[str, str]]:
    best = f"selection_ppl {perplexity(item.best_selection_ppl)}" if item.best_selection_ppl is not None else ""
    if best and item.best_step is not None:
        best += f" at step {item.best_step:,}"
    loss = "" if item.loss is None else f"{item.loss:.4f} (ppl {perplexity(item.ppl)}) {sparkline(item.losses)}"
    return [
        ("run", escape(item.run)),
        ("status", f"{_status(item)}: {escape(item.reason)}"),
        ("model", escape(item.model or "")),
        ("started from", escape(item.parent or "")),
        ("step", _progress(item)),
        ("window", f"W={item.window:,} in this stage" if item.window else ""),
        ("loss", loss),
        ("evaluations", _evaluations(item)),
        ("SW/full", f"{_interval(item)} at {item.advantage['label'].replace('xW', ' x W')}" if item.advantage else ""),
        ("best", best),
        ("patience", f"{item.num_waiting}/{item.patience}" if item.patience is not None else ""),
        ("speed", speed(item.tokens_per_second) if item.tokens_per_second else ""),
        ("ranks", _ranks(item.ranks)),
        ("slowed down", f"[warning]{escape(item.slowed_down)}[/]" if item.slowed_down else ""),
        ("ETA", "" if item.eta_seconds is None else finish_time(item.eta_seconds)),
        ("skipped", f"[warning]{item.num_skipped:,} updates that were not finite[/]" if item.num_skipped else ""),
        ("saved", _saved(item)),
        ("disk", f"{size(item.disk_used_bytes)} used, {size(item.disk_free_bytes)} free"),
        ("GPU", "; ".join(_gpu(card) for card in item.gpus)),
    ]


def _status(item: RunStatus) -> str:
    return f"[{_COLOURS.get(item.state, 'error')}]{item.state}[/]"


def _steps(item: RunStatus) -> str:
    if item.step is None or not item.max_steps:
        return "-"
    return f"{item.step:,} of {item.max_steps:,} ({item.step / item.max_steps:.0%})"


def _progress(item: RunStatus) -> str:
    if item.step is None or not item.max_steps:
        return ""
    filled = round(_BAR_WIDTH * min(1.0, item.step / item.max_steps))
    tokens = f", {item.tokens_seen:,} tokens" if item.tokens_seen else ""
    return f"{_steps(item)} {'━' * filled}{'╌' * (_BAR_WIDTH - filled)}{tokens}"


def _ranks(ranks: dict[str, Any] | None) -> str:
    """Return the world, the oldest sign of life, the slowest rank and those that are silent (markup)."""
    if ranks is None:
        return ""
    text = f"{ranks['world_size']}"
    if ranks["ages"]:
        oldest = max(range(len(ranks["ages"])), key=ranks["ages"].__getitem__)
        text += f"; last sign of life at most {ranks['ages'][oldest]:.0f} s ago (rank {oldest})"
    if ranks["slowest"] is not None:
        text += f"; slowest rank {ranks['slowest']}: {ranks['slowest_seconds']:.3g} s per update before it waits"
    if ranks["silent"]:
        text += f"; [error]no sign of life from rank {', '.join(map(str, ranks['silent']))}[/]"
    return text


def _evaluations(item: RunStatus) -> str:
    ppls = item.selection_ppls
    curve = f" selection_ppl {perplexity(ppls[-1])} {sparkline(ppls)}" if ppls else ""
    if item.num_evaluations == item.num_evaluations_planned == 0:
        return "none planned"
    return f"{item.num_evaluations} of {item.num_evaluations_planned or '?'}{curve}"


def _interval(item: RunStatus) -> str:
    advantage = item.advantage or {}
    ratio, low, high = (advantage.get(name) for name in ("ratio", "ratio_low", "ratio_high"))
    if ratio is None:
        return "-"
    return f"{ratio:.3f}" if low is None or high is None else rf"{ratio:.3f} \[{low:.3f}, {high:.3f}]"


def _saved(item: RunStatus) -> str:
    if item.saved_step is None:
        return ""
    return f"training checkpoint of step {item.saved_step:,}, {duration(item.saved_seconds_ago)} ago"


def _gpu(card: dict[str, int]) -> str:
    parts = [f"{card['index']}:"] if "index" in card else []
    if "utilization" in card:
        parts.append(f"{card['utilization']} %")
    if "memory_used" in card and "memory_total" in card:
        parts.append(f"{card['memory_used'] / 1024:.0f}/{card['memory_total'] / 1024:.0f} GiB")
    if "temperature" in card:
        parts.append(f"{card['temperature']} °C")
    return " ".join(parts)
