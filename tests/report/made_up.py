"""Made-up evaluations and runs for the tests of reports, and readers of the text in a figure."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np

from tttkit.config.run import EvaluationConfig
from tttkit.evaluate import Evaluation
from tttkit.evaluate.evaluation import write_evaluation
from tttkit.results.contexts import Context
from tttkit.results.curves import Curves
from tttkit.results.summary import Summary
from tttkit.run.directory import RunDirectory

W, T = 64, 1280
PNG = b"\x89PNG\r\n\x1a\n"


def evaluation_at(share: float, *, exact: bool = False, num_sequences: int = 4) -> Evaluation:
    """Make an evaluation after `share` of the training: NLL falls with training and rises far beyond W."""
    generator = np.random.default_rng(round(1000 * share))
    position = np.arange(T)
    level = math.log(57_000) * (1 - share) ** 8 + math.log(45) * (1 - (1 - share) ** 8)
    noise = generator.normal(0, 0.3, (num_sequences, T))
    nll = {"full": level + 0.2 * share * np.log2(1 + position / W) + noise}
    for context, gap in (("reset", 0.03), ("sw_aligned", 0.0), ("sw", 0.05)):
        beyond = level + gap + noise + generator.normal(0, 0.05, noise.shape)
        nll[context] = np.where(position < W, nll["full"], beyond)
    if not exact:
        labelled = [position // 16 == m * W // 16 - 1 for m in (1, 2, 5, 10, 20)]
        nll["sw"][:, ~(np.any(labelled, axis=0) | (position < W))] = np.nan
    protocol = EvaluationConfig(
        max_length=T, num_sequences=num_sequences, num_resamples=100, sw_mode="exact" if exact else "positions"
    )
    arrays = {context: values.astype(np.float32) for context, values in nll.items()}
    return Evaluation(
        protocol=protocol, window=W, nll=arrays, selection_ppl=math.exp(level), selection_windows=9,
        starts=(T + 1) * np.arange(4),
        documents=np.arange(4),
    )  # fmt: skip


def write_run(
    path: Path, num_evaluations: int, *, exact: bool = False, model: str = "ttt-linear", apart: int = 100
) -> RunDirectory:
    """Write a run with `apart` updates between evaluations, without metadata.json."""
    run = RunDirectory(path)
    summaries = []
    for index in range(num_evaluations):
        share = index / max(1, num_evaluations - 1)
        facts = {"checkpoint_idx": index, "step": apart * index, "tokens_seen": 1000 * index, "model": model}
        summaries.append(write_evaluation(run.checkpoint(index), evaluation_at(share, exact=exact), facts))
    Summary.write_all(run.summaries, summaries)
    records = [{"step": step, "loss": 9 - step / 500, "num_skipped": 0} for step in range(1, 100 * num_evaluations)]
    run.metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    return run


def changed(curves: Curves, **values: object) -> Curves:
    """Return the same evaluation with other values under these keys of chunk_eval.json."""
    return Curves({**curves.to_dict(), **values}, index=curves.index, step=curves.step, model=curves.model)


def new_context() -> Context:
    """Return a context that no module knows yet, with its own colour and description."""
    return Context(
        name="decayed", key="decayed", is_windowed=True, description="a state that decays", colour="#56B4E9",
        line_style="--", cost=lambda length, *_: length, block_sequences=64, is_required=False,
    )  # fmt: skip


def texts(svg: Path) -> list[str]:
    """Return the texts in an SVG; matplotlib draws letters as paths and adds each text as a comment."""
    return [text.replace("\u200a", "") for text in re.findall(r"<!-- (.*?) -->", svg.read_text())]


def line_colours(svg: Path) -> list[str]:
    """Return the colour of every data line in drawing order; axes, grid and marks are grey."""
    strokes = re.findall(r"fill: none; stroke: (#[0-9a-f]{6})", svg.read_text())
    return [stroke for stroke in strokes if len(set(re.findall("..", stroke[1:]))) > 1]


def drawn_colours(svg: Path) -> list[str]:
    """Return the colour of every data line, dashed or not, and of its mark in a legend."""
    strokes = re.findall(
        r"fill: none;(?: stroke-dasharray: [^;]*; stroke-dashoffset: [^;]*;)? stroke: (#[0-9a-f]{6})", svg.read_text()
    )
    return [stroke for stroke in strokes if len(set(re.findall("..", stroke[1:]))) > 1]
