"""`tttkit plot`: draw the figures of a run, into the run by default."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tttkit.errors import UsageError
from tttkit.run.directory import RunDirectory, find_run
from tttkit_cli.console import out, print_json

if TYPE_CHECKING:
    from tttkit.report.figures.style import Scales

_PAGE = "html"
_FORMATS = ("png", "svg", _PAGE)


def plot(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="RUN directories (default: the newest under runs/).", metavar="RUN…")
    ] = None,
    curriculum_dir: Annotated[
        Path | None, typer.Option(help="Another name for RUN, as in the earlier system.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--out", "--output", "-o", help="Directory to write to (default: RUN).", show_default=False),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="png, svg, html (one self-contained page), or several: png,svg.")
    ] = "png",
    log_x: Annotated[
        bool, typer.Option("--logx", help="Use a logarithmic axis for positions, steps and tokens.")
    ] = False,
    log_y: Annotated[
        bool, typer.Option("--logy/--no-logy", help="Use a logarithmic axis for loss and perplexity.")
    ] = True,
    smooth: Annotated[
        float | None,
        typer.Option(
            help="Number of logged steps in the smoothed loss (default: 2 % of the run).", min=1, show_default=False
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the files with the default viewer.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the files written as JSON.")] = False,
) -> None:
    """Draw the figures of a run: length generalization over training, SW/full ratios, training loss and inner loss.

    Several runs are drawn one by one, then together on the token axis as `comparison`, in -o or beside the first run.

    The format html writes report.html, one file that needs no network: findings, criteria, curves, tables, settings.

    Examples: `tttkit plot runs/quick --format png,svg` · `tttkit plot runs/a runs/b -o figures` ·
    `tttkit plot runs/quick --format html --open`
    """
    kinds = list(dict.fromkeys(kind.strip() for kind in formats.split(",")))
    for kind in kinds:
        if kind not in _FORMATS:
            raise UsageError(f"--format must be {', '.join(_FORMATS)}, or several: png,svg; got `{kind}`")
    paths = [*(runs or []), *([curriculum_dir] if curriculum_dir else [])]
    directories = [find_run(path) for path in paths] or [find_run(None)]
    from tttkit.report.figures.style import Scales

    written = _draw(directories, output, kinds, Scales(log_x=log_x, log_y=log_y, smoothing=smooth))
    if json_output:
        print_json({"written": [str(path) for path in written]})
    for path in () if json_output else written:
        out.print(str(path), markup=False, soft_wrap=True)
    for path in written if show else ():
        typer.launch(str(path))


def _draw(directories: list[RunDirectory], output: Path | None, kinds: list[str], scales: Scales) -> list[Path]:
    """Draw everything in all kinds; return the files written."""
    from tttkit.report.figures.draw import draw_comparison, draw_run
    from tttkit.report.page.html import write_page

    drawn = [kind for kind in kinds if kind != _PAGE]
    written = []
    for run in directories:
        target = run.path if output is None else output if len(directories) == 1 else output / run.path.name
        written += draw_run(run, target, drawn, scales) if drawn else []
        if _PAGE in kinds:
            written.append(write_page(run, target, [other for other in directories if other != run]))
    if len(directories) > 1 and drawn:
        written += draw_comparison(directories, output or directories[0].path.parent, drawn, scales)
    return written
