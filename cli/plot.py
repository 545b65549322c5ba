"""`tttkit plot`: figures of a run, written beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tttkit.errors import UsageError
from tttkit.rundir import find_run

from .console import out, print_json

_FORMATS = ("png", "svg")


def plot(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="RUN directories (default: the newest under runs/).", metavar="RUN…")
    ] = None,
    curriculum_dir: Annotated[
        Path | None, typer.Option(help="Another name of RUN, for the earlier system's commands.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--out", "--output", "-o", help="Directory to write to (default: RUN).", show_default=False),
    ] = None,
    formats: Annotated[str, typer.Option("--format", help="png, svg, or both: png,svg.")] = "png",
    json_output: Annotated[bool, typer.Option("--json", help="Print the files written as JSON.")] = False,
) -> None:
    """Draw how length generalization evolves over a run: full context over sliding window, a line per checkpoint.

    Example: `tttkit plot runs/quick --format png,svg`
    """
    kinds = [kind.strip() for kind in formats.split(",")]
    for kind in kinds:
        if kind not in _FORMATS:
            raise UsageError(f"--format must be {' or '.join(_FORMATS)}, or both: png,svg; got `{kind}`")
    from tttkit.report.plots import EVOLUTION_NAME, load_curves, load_means, plot_evolution, plot_means

    paths = [*(runs or []), *([curriculum_dir] if curriculum_dir else [])]
    directories = [find_run(path) for path in paths] or [find_run(None)]
    written = []
    for run in directories:
        target = run.path if output is None else output if len(directories) == 1 else output / run.path.name
        means = load_means(run)
        curves = [] if means else load_curves(run)
        target.mkdir(parents=True, exist_ok=True)
        for kind in kinds:
            path = target / f"{EVOLUTION_NAME}.{kind}"
            written.append(str(plot_means(means, path) if means else plot_evolution(curves, path)))
            if not json_output:
                out.print(written[-1], markup=False, soft_wrap=True)
    if json_output:
        print_json({"written": written})
