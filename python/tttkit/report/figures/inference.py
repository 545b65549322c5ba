"""Figure: tokens per second and memory of decoding, by the length of the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from tttkit.report.figures.axes import digits, grid
from tttkit.report.figures.style import CYCLE, legend_below, save, sheet

_PANELS = (
    ("decoding, tokens/s", "tokens_per_second", 1.0),
    ("first token, s", "first_token_seconds", 1.0),
    ("state or cache, MB", "state_bytes", 1e-6),
)
_UNITS = ((1 << 20, "M"), (1 << 10, "k"))


def plot_inference(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draw the rows of inference.json, a row of panels per batch size and a line per model, and return `path`.

    Figures that no row has get no panel.
    """
    panels = [panel for panel in _PANELS if any(panel[1] in row for row in rows)]
    batch_sizes = list(dict.fromkeys(row["batch_size"] for row in rows))
    names = list(dict.fromkeys(row["name"] for row in rows))
    styles = dict(zip(names, CYCLE * (1 + len(names) // len(CYCLE)), strict=False))
    with sheet(0.6 + 2.6 * len(batch_sizes), width=3.0 * len(panels)) as figure:
        all_axes = figure.subplots(len(batch_sizes), len(panels), squeeze=False)
        for line_of_axes, batch_size in zip(all_axes, batch_sizes, strict=True):
            for axes, (title, key, unit) in zip(line_of_axes, panels, strict=True):
                for name, (colour, line) in styles.items():
                    mine = [row for row in rows if (row["name"], row["batch_size"]) == (name, batch_size)]
                    x, y = [row["context"] for row in mine], [row[key] * unit for row in mine]
                    axes.plot(x, y, color=colour, linestyle=line, marker="o", markersize=3, label=name)
                axes.set_title(title if batch_size == 1 else f"{title} ({batch_size} texts)")
                _scale(axes, sorted({row["context"] for row in rows}))
        for axes in all_axes[-1]:
            axes.set_xlabel("tokens of context")
        legend_below(figure, all_axes[0])
        return save(figure, path)


def _scale(axes: Axes, contexts: list[int]) -> None:
    """Give both axes a logarithmic scale, with a tick at every context or every second one."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    shown = contexts[:: 1 + (len(contexts) - 1) // 6]
    axes.set_xticks(shown, [_short(context) for context in shown])
    low, high = axes.get_ylim()
    subs: tuple[float, ...] = (1.0, 2.0, 5.0) if high / low < 300 else (1.0,)
    if high / low < 4:
        subs = tuple(float(digit) for digit in range(1, 10))
    axes.yaxis.set_major_locator(LogLocator(10, subs=subs, numticks=30))
    axes.yaxis.set_major_formatter(digits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    grid(axes)


def _short(number: int) -> str:
    """Return 4096 as 4k; other numbers whole."""
    return next((f"{number // size}{unit}" for size, unit in _UNITS if number % size == 0), str(number))
