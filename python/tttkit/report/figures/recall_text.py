"""Figure of questions about a text: NLL of the right answers above, and the share found below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from tttkit.analyze.intervals import bootstrap
from tttkit.report.figures.axes import grid, thousands
from tttkit.report.figures.style import CYCLE, draw_interval, legend_below, save, sheet
from tttkit.results.recall import Recall

_SCORES = {"nlls": "NLL of a right answer (nats)", "found": "share found"}
_HEIGHT, _WIDTH = 5.2, 2.2
"""Inches of the figure, and of a column where there are more than two."""
_GAP = 0.1
"""Inches beside each column, so that the numbers below two of them do not touch."""


def plot_text_tasks(results: Sequence[tuple[str, Recall]], path: Path) -> Path:
    """Draw a column for each kind of question, a line per model with 95 % intervals; return `path`.

    For passkey there are two columns: by length, the mean over depths, and by depth, the mean over lengths.
    """
    kinds = list(dict.fromkeys(row["part"] for row in results[0][1].rows))
    has_depths = results[0][1].rows[0]["depth"] is not None
    columns = [(kind, "length") for kind in kinds] + ([(kinds[0], "depth")] if has_depths else [])
    with sheet(_HEIGHT, column_width(len(columns))) as figure:
        figure.get_layout_engine().set(w_pad=_GAP)  # type: ignore[union-attr, call-arg]
        panels = figure.subplots(2, len(columns), sharey="row", sharex="col" if has_depths else True, squeeze=False)
        for (kind, along), column in zip(columns, panels.T, strict=True):
            column[0].set_title(kind if len(kinds) > 1 else f"by {along}")
            for axes, score in zip(column, _SCORES, strict=True):
                for index, (name, result) in enumerate(results):
                    _draw(axes, name, _points(result, kind, along, score), CYCLE[index % len(CYCLE)])
                grid(axes)
                if along == "length":
                    length_axis(axes)
            column[1].set_xlabel("tokens of the example" if along == "length" else "depth of the pass key")
        panels[0, 0].set_ylabel(_SCORES["nlls"])
        share_axis(panels[1, 0], _SCORES["found"])
        legend_below(figure, panels[0])
        return save(figure, path)


def column_width(num_columns: int) -> float:
    """Return the width in inches of a figure with a number of columns."""
    return max(6.0, _WIDTH * num_columns)


def length_axis(axes: Axes) -> None:
    """Show lengths in tokens along x, by powers of two."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(thousands)


def share_axis(axes: Axes, text: str) -> None:
    """Show a share along y, always from 0 to 1."""
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel(text)


def _draw(axes: Axes, name: str, points: NDArray[np.float64], style: Any) -> None:
    x, y, low, high = points
    draw_interval(axes, x, y, (low, high), style)
    axes.plot([], [], color=style[0], linestyle=style[1], label=name)


def _points(result: Recall, kind: str, along: str, score: str) -> NDArray[np.float64]:
    """Return x, mean, low and high (4, K): means over the columns of each length or depth, then over examples."""
    rows: list[Mapping[str, Any]] = result.rows
    values = np.array(result.values[score], dtype=np.float64)
    places = sorted({row[along] for row in rows if row["part"] == kind})
    means = [values[:, [row["part"] == kind and row[along] == place for row in rows]].mean(axis=1) for place in places]
    intervals = bootstrap(np.stack(means, axis=1))
    return np.stack([np.array(places, dtype=np.float64), intervals.observed, intervals.low, intervals.high])
