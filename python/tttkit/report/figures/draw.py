"""Draw all figures that the files of a run allow, and figures of several runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tttkit.analyze import earlier_system
from tttkit.analyze.curves import load_curves, load_means
from tttkit.report.figures.inner import plot_inner_loss
from tttkit.report.figures.position import EVOLUTION_NAME, plot_evolution, plot_means
from tttkit.report.figures.ratio import plot_ratio_by_position, plot_ratio_by_step, plot_ratio_map
from tttkit.report.figures.style import USUAL, Scales
from tttkit.report.figures.training import plot_comparison, plot_training
from tttkit.run.directory import RunDirectory

COMPARISON_NAME = "comparison"


def draw_run(run: RunDirectory, target: Path, kinds: Sequence[str], scales: Scales = USUAL) -> list[Path]:
    """Draw the figures of a run into `target` in every kind (png, svg), except those that its files do not allow.

    Return the files written. Raises UsageError when the run has no evaluation yet, DataError, DiskFullError.
    """
    target.mkdir(parents=True, exist_ok=True)
    if means := load_means(run):
        return [plot_means(means, target / f"{EVOLUTION_NAME}.{kind}", scales) for kind in kinds]
    evaluations, summaries = load_curves(run), earlier_system.read_summaries(run)
    metadata, metrics = earlier_system.read_metadata(run), run.read_metrics()
    segments = metadata.get("segments", [])
    mini_batch = metadata.get("config", {}).get("model", {}).get("mini_batch_size")
    figures: list[tuple[str, Callable[[Path], Path | None]]] = [
        (EVOLUTION_NAME, lambda path: plot_evolution(evaluations, path, scales)),
        ("ratio_by_position", lambda path: plot_ratio_by_position(evaluations[-1], path)),
        ("ratio_by_step", lambda path: plot_ratio_by_step(summaries, path, scales)),
        ("ratio_map", lambda path: plot_ratio_map(evaluations, path)),
        ("training_loss", lambda path: plot_training(metrics, segments, path, scales)),
        ("inner_loss", lambda path: plot_inner_loss(metrics, path, scales, mini_batch=mini_batch)),
    ]
    drawn = [draw(target / f"{name}.{kind}") for name, draw in figures for kind in kinds]
    return [path for path in drawn if path is not None]


def draw_comparison(
    runs: Sequence[RunDirectory], target: Path, kinds: Sequence[str], scales: Scales = USUAL
) -> list[Path]:
    """Draw several runs on the token axis into `target`. Return the files written; raises as `draw_run` does."""
    named = [(run.path.name or str(run.path), earlier_system.read_summaries(run)) for run in runs]
    target.mkdir(parents=True, exist_ok=True)
    return [plot_comparison(named, target / f"{COMPARISON_NAME}.{kind}", scales) for kind in kinds]
