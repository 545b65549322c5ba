"""Markdown from plain values: tables, lists, sparklines."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

from tttkit.results.contexts import CONTEXTS

_BARS = "▁▂▃▄▅▆▇█"


def table(rows: Iterable[dict[str, Any]], names: Collection[str] = ()) -> str:
    """Return rows of equal keys as a Markdown table, with `–` for unknown values.

    Heads are shown without underscores, except heads in `names` and heads that begin with the name of a context.
    """
    rows = list(rows)
    if not rows:
        return ""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(_head(head, names) for head in heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(row.get(head)) for head in heads) + " |" for row in rows]
    return "\n".join(lines)


def titled(title: str, rows: Iterable[dict[str, Any]], names: Collection[str] = ()) -> str:
    """Return a table below its title, or an empty text if there are no rows."""
    text = table(rows, names)
    return f"{title}:\n\n{text}" if text else ""


def sparkline(values: list[float], width: int = 40) -> str:
    """Return values as bars, thinned to `width`; empty for fewer than two values."""
    if len(values) < 2:
        return ""
    if len(values) > width:
        values = [values[index * (len(values) - 1) // (width - 1)] for index in range(width)]
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def bullets(items: Iterable[str]) -> str:
    """Return a list with one line per item, or the line `Nothing.`"""
    return "\n".join(f"- {item}" for item in items) or "- Nothing."


def capitalized(text: str) -> str:
    """Return text with a capital first letter."""
    return text[:1].upper() + text[1:]


def _head(head: str, names: Collection[str]) -> str:
    first = head.partition("/")[0].partition(" ")[0]
    return _cell(head if head in names or first in CONTEXTS else head.replace("_", " "))


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _figure(value)
    return str(value).replace("|", "\\|").replace("\n", " ")


def _figure(value: float) -> str:
    """Return a number with two decimals, with four digits below 1, or without decimals for whole thousands."""
    if not math.isfinite(value):
        return "–"
    if abs(value) < 1:
        return f"{value:.4g}"
    return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:,.2f}"
