"""Markdown from plain values: tables, lists, sparklines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

_BARS = "▁▂▃▄▅▆▇█"


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Rows of equal keys as a Markdown table; `–` where nothing is known."""
    rows = list(rows)
    if not rows:
        return ""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(head.replace("_", " ") for head in heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(row.get(head)) for head in heads) + " |" for row in rows]
    return "\n".join(lines)


def titled(title: str, rows: Iterable[dict[str, Any]]) -> str:
    """A table under its title; nothing for no rows."""
    text = table(rows)
    return f"{title}:\n\n{text}" if text else ""


def sparkline(values: list[float], width: int = 40) -> str:
    """Values as bars, thinned to `width`; empty for fewer than two."""
    if len(values) < 2:
        return ""
    if len(values) > width:
        values = [values[index * (len(values) - 1) // (width - 1)] for index in range(width)]
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def bullets(items: Iterable[str]) -> str:
    """A line each; `Nothing.` where there is none."""
    return "\n".join(f"- {item}" for item in items) or "- Nothing."


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
    """Two decimals, four digits below 1, none in thousands that are whole."""
    if not math.isfinite(value):
        return "–"
    if abs(value) < 1:
        return f"{value:.4g}"
    return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:,.2f}"
