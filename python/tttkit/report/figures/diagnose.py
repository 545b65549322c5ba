"""Figure of a diagnosis: state, inner loss, effective memory and perplexity of key tokens, in four panels."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from tttkit.report.figures.axes import grid, log_x, mark, thousands, value_axis
from tttkit.report.figures.style import CYCLE, GREY, USUAL, Floats, draw_interval, save, sheet
from tttkit.results.diagnose import Diagnosis

_BLUE, _ORANGE = CYCLE[0][0], CYCLE[1][0]


def plot_diagnosis(diagnosis: Diagnosis, path: Path) -> Path:
    """Draw the four panels and return `path`. A panel without figures says why."""
    with sheet(6.4, 9.0) as figure:
        (state, inner), (memory, perplexity) = figure.subplots(2, 2)
        _state(state, diagnosis)
        _inner_loss(inner, diagnosis)
        _memory(memory, diagnosis)
        _perplexity(perplexity, diagnosis)
        for axes in (state, inner, perplexity):
            axes.set_xlabel(f"position (tokens; dotted: W = {diagnosis.window:,})")
        return save(figure, path)


def _state(axes: Axes, diagnosis: Diagnosis) -> None:
    axes.set_title("State: norm and distance from training")
    state = diagnosis.state
    if state is None:
        return _say(axes, diagnosis.left_out["state"])
    positions = _floats(state["positions"])
    at_window = int(np.abs(positions - diagnosis.window).argmin())
    layers = state["layers"]
    colours = colormaps["viridis"](np.linspace(0, 0.85, len(layers)))
    for colour, layer, norm in zip(colours, layers, state["norm"], strict=True):
        values = _floats(norm)
        relative = values / values[at_window] if values[at_window] > 0 else values
        # more names than these would fill the panel; the colours in between go from dark to bright
        label = f"layer {layer}" if len(layers) <= 4 or layer in (layers[0], layers[-1]) else None
        axes.plot(positions, relative, color=colour, linewidth=1.2, label=label)
    for colour, distance in zip(colours, state.get("distance", []), strict=False):
        axes.plot(positions, _floats(distance), color=colour, linewidth=1.2, linestyle="--")
    axes.plot([], [], color=GREY, label="norm / norm at W")
    if "distance" in state:
        axes.plot([], [], color=GREY, linestyle="--", label="distance (training: 1)")
    axes.axhline(1.0, color=GREY, linewidth=0.8, zorder=1)
    value_axis(axes, USUAL)
    _positions(axes, diagnosis)
    return None


def _inner_loss(axes: Axes, diagnosis: Diagnosis) -> None:
    axes.set_title("Inner loss, mean over layers")
    over_layers = (diagnosis.state or {}).get("over_layers", {})
    if "before" not in over_layers:
        return _say(axes, diagnosis.left_out.get("inner_loss") or diagnosis.left_out.get("state", "not measured"))
    positions = _floats((diagnosis.state or {})["positions"])
    for name, line_style, label in (
        ("before", (_ORANGE, "--"), "before its mini-batch"),
        ("after", (_BLUE, "-"), "after learning up to the token"),
    ):
        _band(axes, positions, over_layers[name], "mean", line_style)
        axes.plot([], [], color=line_style[0], linestyle=line_style[1], label=label)
    axes.set_ylabel("per feature")
    value_axis(axes, USUAL, subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
    _positions(axes, diagnosis)
    return None


def _memory(axes: Axes, diagnosis: Diagnosis) -> None:
    axes.set_title("Change of predictions without older tokens")
    for index, item in enumerate(diagnosis.memory):
        colour, line = CYCLE[index % len(CYCLE)]
        _band(axes, _floats(item["tokens"]), item, "variation", (colour, line))
        decide = "1 token decides" if item["effective"] == 1 else f"{item['effective']:,} tokens decide"
        label = f"after {item['label']} x W: {decide}"
        axes.plot([], [], color=colour, linestyle=line, label=label)
    axes.axhline(diagnosis.values.get("tolerance", 0.0), color=GREY, linewidth=0.8, zorder=1)
    log_x(axes)
    axes.xaxis.set_major_locator(LogLocator(10, numticks=12))
    axes.xaxis.set_major_formatter(thousands)
    axes.set_xlabel(f"last tokens that remain (dotted: W = {diagnosis.window:,})")
    axes.set_ylabel("total variation")
    axes.set_ylim(0, 1)
    _finish(axes, diagnosis)


def _perplexity(axes: Axes, diagnosis: Diagnosis) -> None:
    bands = diagnosis.perplexity
    centres = _floats([(band["first"] + band["last"]) / 2 for band in bands])
    kinds = [("ppl", "all tokens", (_BLUE, "-")), ("key_ppl", "key tokens", (_ORANGE, "--"))]
    shown = [kind for kind in kinds if any(band.get(kind[0]) is not None for band in bands)]
    axes.set_title(f"Perplexity of {' and of '.join(label for _, label, _ in shown)}")
    for name, label, style in shown:
        _band(axes, centres, _columns(bands, name), "ppl", style)
        axes.plot([], [], color=style[0], linestyle=style[1], label=label)
    if kinds[1] not in shown:
        reason = _folded(f"no key tokens: {diagnosis.left_out.get('key_tokens', 'none was found')}")
        axes.text(0.03, 0.03, reason, transform=axes.transAxes, color=GREY, fontsize=8.5)
    value_axis(axes, USUAL)
    values = _floats([band.get(name) for band in bands for name in ("ppl", "key_ppl")])
    if np.isfinite(values).any():
        # intervals of few key tokens may be wider than the axes
        axes.set_ylim(np.nanmin(values) / 2.5, np.nanmax(values) * 2.5)
    _positions(axes, diagnosis)


def _columns(bands: Sequence[Mapping[str, Any]], name: str) -> dict[str, list[float | None]]:
    return {
        "ppl": [band.get(name) for band in bands], "low": [band.get(f"{name}_low") for band in bands],
        "high": [band.get(f"{name}_high") for band in bands],
    }  # fmt: skip


def _band(axes: Axes, x: Floats, item: Mapping[str, Any], name: str, line_style: Any) -> None:
    draw_interval(axes, x, _floats(item[name]), (_floats(item["low"]), _floats(item["high"])), line_style)


def _positions(axes: Axes, diagnosis: Diagnosis) -> None:
    log_x(axes)
    axes.xaxis.set_major_formatter(thousands)
    _finish(axes, diagnosis)


def _finish(axes: Axes, diagnosis: Diagnosis) -> None:
    mark(axes, diagnosis.window)
    grid(axes)
    # the frame keeps lines from crossing the names
    axes.legend(fontsize=8.5, frameon=True, framealpha=0.85, edgecolor="none")


def _say(axes: Axes, reason: str) -> None:
    axes.text(0.5, 0.5, _folded(reason), transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_axis_off()


def _folded(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 42))


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
