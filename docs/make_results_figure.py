"""Draw length-generalization.png from results/seeds/results.json: `python docs/make_results_figure.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter
from seed_results import Rows, perplexities, ratio

from tttkit.report.figures.axes import ratio_axis
from tttkit.report.figures.style import CYCLE, draw_interval, label_ends, save, sheet

DOCS = Path(__file__).resolve().parent
LABELS = (1, 2, 5, 10, 20)
NAMES = {
    "gdn": "GDN", "gdn-dynamic": "GDN, dynamic", "ttt": "ttt-linear", "gdn-hybrid": "GDN and sw, 3 to 1",
    "ttt-decay-token": "ttt, decay", "ttt-parallel-decay": "ttt, window, decay", "ttt-k": "ttt, contiguous",
}  # fmt: skip
BASE = "sw-sinks"


def main() -> None:
    """Write the figure next to this file."""
    draw(DOCS)


def draw(target: Path) -> None:
    """Draw both panels: models against the sliding window with sinks, `full` against `reset` of the same weights."""
    known = perplexities(LABELS[-1])
    with sheet(6.4) as figure:
        against_window, against_reset = figure.subplots(2, 1, sharex=True)
        _panel(against_window, known, tuple(name for name in NAMES if name != "ttt-k"), BASE)
        against_window.set_ylabel("perplexity / sw with sinks")
        against_window.set_title("Below 1: better than a sliding window with sinks")
        _panel(against_reset, known, tuple(name for name in NAMES if name != "gdn-hybrid"), None)
        against_reset.set_ylabel("full / reset")
        against_reset.set_title("Below 1: the memory pays beyond W tokens")
        against_reset.set_xlabel("position in windows W = 64 (three seeds, 95 % intervals)")
        save(figure, target / "length-generalization.png")


def _panel(axes: Axes, known: dict[str, Rows], models: tuple[str, ...], base: str | None) -> None:
    """Draw `full` of each model relative to `full` of `base`, or to its own `reset`, paired by seed."""
    axes.set_xscale("log")
    ends = []
    for model, line_style in zip(NAMES, CYCLE, strict=False):
        if model not in models:
            continue
        other, context = known[base or model], "full" if base else "reset"
        ratios = [ratio(known[model], str(label), other, [context]) for label in LABELS]
        means = np.array([mean for mean, _ in ratios])
        bounds = [np.array([interval[end] for _, interval in ratios]) for end in (0, 1)]
        draw_interval(axes, np.array(LABELS, dtype=float), means, bounds, line_style)
        ends.append((float(means[-1]), NAMES[model], line_style[0]))
    ratio_axis(axes)
    axes.xaxis.set_major_locator(FixedLocator(LABELS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.set_xlim(LABELS[0], LABELS[-1])
    label_ends(axes, ends)


if __name__ == "__main__":
    main()
