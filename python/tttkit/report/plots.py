"""Plots of length generalization, for a screen and for a paper. Same data, same bytes.

matplotlib is imported by this module alone, and this module only when something is drawn.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from tttkit import files
from tttkit.errors import DataError, UsageError
from tttkit.rundir import RunDirectory

EVOLUTION_NAME = "curriculum_length_gen_evolution"
LABELS = (1, 2, 5, 10, 20, 50, 100)
# Okabe and Ito's colours, told apart in every common form of colour blindness, and a line style each for greyscale.
STYLES = {
    "full": ("#0072B2", "-", "full: state carried"),
    "sw": ("#D55E00", "--", "sw: sliding window"),
    "sw_aligned": ("#E69F00", "-.", "sw_aligned"),
    "reset": ("#009E73", ":", "reset every W"),
}
_DPI = 150
_GREY = "0.45"
_TITLE_PAD = 16
"""Points between axes and title: room for the names of the marked positions."""


def load_curves(run: RunDirectory) -> list[dict[str, Any]]:
    """Curves of every evaluated checkpoint with its step, in order of step; labelled points where no curve was kept.

    Raises UsageError when the run has no evaluation yet, DataError when a file is damaged.
    """
    loaded: list[dict[str, Any]] = []
    for summary in run.read_summaries():
        path = run.checkpoint(int(summary.get("checkpoint_idx", len(loaded)))) / "chunk_eval.json"
        curves = files.read_json(path) if path.exists() else _curves_of_summary(summary)
        if not isinstance(curves, dict) or "ends" not in curves:
            raise DataError(f"{path} holds no curves")
        loaded.append({**curves, "step": summary["step"]})
    loaded = [curves for curves in loaded if curves["ends"]]
    if not loaded:
        raise UsageError(f"{run.path} has no evaluation yet", hint=f"look at it with `tttkit status {run.path}`")
    return sorted(loaded, key=lambda curves: int(curves["step"]))


def plot_evolution(curves: list[dict[str, Any]], path: Path) -> Path:
    """TTT over SW panels, a line per checkpoint from dark to bright; PNG or SVG by the suffix of `path`. Returns it."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, sharey=True)
    steps = [int(item["step"]) for item in curves]
    norm = Normalize(0, max(1, *steps))
    colours = ListedColormap(colormaps["viridis"](np.linspace(0, 0.92, 256)))  # its last yellow is too pale on white
    for item, step in zip(curves, steps, strict=True):
        colour, ends = colours(norm(step)), np.asarray(item["ends"])
        top.plot(ends, _perplexity(item, "full"), color=colour, linewidth=1.3)
        _draw_windowed(bottom, item, ends, colour)
    exact = all(not np.isnan(_perplexity(item, "sw")).any() for item in curves)
    window = curves[-1]["training_window"]
    top.set_title("Full context: the state is carried from token 0", loc="left", fontsize=11, pad=_TITLE_PAD)
    bottom.set_title(f"The same weights under a sliding window of {window} tokens", loc="left", fontsize=11)
    if not exact:
        _explain_points(figure)
    for axes in (top, bottom):
        _dress(axes, curves[-1])
    _mark_multiples(top, curves[-1])
    bottom.set_xlabel("position in the sequence (tokens)")
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=[top, bottom], pad=0.02, aspect=40)
    bar.set_label("training step")
    bar.formatter = FuncFormatter(lambda value, _: f"{value:,.0f}")
    return _save(figure, path)


def plot_chunk_eval(curves: dict[str, Any], path: Path) -> Path:
    """All contexts of one checkpoint over positions, with the band of the ratio SW/full below. Returns `path`."""
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    ends = np.asarray(curves["ends"])
    for context, (colour, style, label) in STYLES.items():
        values = _perplexity(curves, context)
        known = ~np.isnan(values)
        look = {"linestyle": style, "linewidth": 1.6} if known.all() else {"linestyle": "none", "marker": "o"}
        top.plot(
            ends[known], values[known], color=colour, label=label, markersize=4, zorder=2 + (not known.all()), **look
        )
    for context in ("sw", "sw_aligned", "reset"):
        _draw_ratio(bottom, curves, context, ends)
    bottom.axhline(1.0, color=_GREY, linewidth=0.8)
    top.legend(frameon=False, ncols=2, fontsize=9)
    top.set_title(
        f"Perplexity by position, n = {curves['num_sequences']} sequences, W = {curves['training_window']}",
        loc="left", fontsize=11, pad=_TITLE_PAD,
    )  # fmt: skip
    _dress(top, curves)
    _mark_multiples(top, curves)
    _dress_x(bottom, curves)
    bottom.set_ylabel("ratio to full")
    bottom.set_xlabel("position in the sequence (tokens); above 1, full is better; bands: 95 %")
    return _save(figure, path)


def chunk_eval_name(curves: dict[str, Any]) -> str:
    """chunk_eval_W…_T…_K…_S….png, as the earlier system named it."""
    sizes = (curves[key] for key in ("training_window", "eval_max_length", "chunk_size", "chunk_stride"))
    return "chunk_eval_W{}_T{}_K{}_S{}.png".format(*sizes)


def _draw_windowed(axes: Axes, item: dict[str, Any], ends: NDArray[np.int64], colour: Any) -> None:
    exact = _perplexity(item, "sw")
    known = ~np.isnan(exact)
    if known.all():
        axes.plot(ends, exact, color=colour, linewidth=1.3)
        return
    axes.plot(ends, _perplexity(item, "sw_aligned"), color=colour, linewidth=0.6)
    axes.plot(ends[known], exact[known], "o", color=colour, markersize=3.5)


def _explain_points(figure: Figure) -> None:
    points = Line2D([], [], color=_GREY, marker="o", linestyle="none", markersize=3.5, label="every token's own window")
    lines = Line2D([], [], color=_GREY, linewidth=0.6, label="windows aligned to the inner mini-batch")
    figure.legend(handles=[points, lines], frameon=False, fontsize=9, loc="outside lower center", ncols=2)


def _draw_ratio(axes: Axes, curves: dict[str, Any], context: str, ends: NDArray[np.int64]) -> None:
    colour, style, _ = STYLES[context]
    ratio, low, high = (_floats(curves.get(f"{context}_{key}")) for key in ("ratio", "ratio_low", "ratio_high"))
    known = np.zeros(0, dtype=bool) if ratio.size != ends.size else ~np.isnan(ratio)
    if not known.any():
        return
    if known.all():
        axes.plot(ends, ratio, style, color=colour, linewidth=1.4)
        axes.fill_between(ends, low, high, color=colour, alpha=0.18, linewidth=0)
    else:
        ends, ratio, low, high = ends[known], ratio[known], low[known], high[known]
        axes.errorbar(ends, ratio, (ratio - low, high - ratio), fmt="o", color=colour, markersize=4, capsize=2)


def _dress(axes: Axes, curves: dict[str, Any]) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0), numticks=30))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("perplexity")
    _dress_x(axes, curves)


def _dress_x(axes: Axes, curves: dict[str, Any]) -> None:
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(0, curves["ends"][-1] * 1.01)
    for position, _ in _multiples(curves):
        axes.axvline(position, color=_GREY, linewidth=0.7, linestyle=(0, (2, 3)), zorder=0)


def _mark_multiples(axes: Axes, curves: dict[str, Any]) -> None:
    """Names of the marked positions, above the axes; a name that would touch the one before is left out."""
    last = -np.inf
    for position, label in _multiples(curves):
        if position - last < 0.049 * curves["ends"][-1]:
            continue
        last = position
        axes.annotate(
            label, (position, 1.0), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", va="bottom", fontsize=8, color=_GREY,
        )  # fmt: skip


def _multiples(curves: dict[str, Any]) -> list[tuple[int, str]]:
    window, longest = int(curves["training_window"]), int(curves["ends"][-1])
    return [(multiple * window, f"{multiple}×W") for multiple in LABELS if 0 < multiple * window <= longest]


def _curves_of_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """The labelled points of a summary, for evaluations whose curves were not kept."""
    window = int(summary.get("training_window", 0))
    known = [multiple for multiple in LABELS if summary.get(f"ttt_ppl_at_{multiple}xW") is not None]
    curves: dict[str, Any] = {"training_window": window, "ends": [multiple * window for multiple in known]}
    for context, prefix in (("full", "ttt"), ("sw", "sw")):
        values = [summary.get(f"{prefix}_ppl_at_{multiple}xW") for multiple in known]
        curves[f"{context}_mean_nll"] = [float(np.log(value)) if value else None for value in values]
    return curves


def _perplexity(curves: dict[str, Any], context: str) -> NDArray[np.float64]:
    values = _floats(curves.get(f"{context}_mean_nll"))
    return np.exp(values if values.size else np.full(len(curves["ends"]), np.nan))


def _floats(values: list[float | None] | None) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values or ()], dtype=np.float64)


def _save(figure: Figure, path: Path) -> Path:
    """Write the figure, without dates or versions in it, so that equal data give equal bytes."""
    import io

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    figure.savefig(buffer, format=kind, dpi=_DPI, metadata=metadata)
    files.write_bytes(path, buffer.getvalue())
    return path
