"""`tttkit plot`: figures of a run, written beside it."""

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
        Path | None, typer.Option(help="Another name of RUN, for the earlier system's commands.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--out", "--output", "-o", help="Directory to write to (default: RUN).", show_default=False),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="png, svg, html (one page to send around), or several: png,svg.")
    ] = "png",
    log_x: Annotated[bool, typer.Option("--logx", help="Positions, steps and tokens on a logarithmic axis.")] = False,
    log_y: Annotated[bool, typer.Option("--logy/--no-logy", help="Loss and perplexity on a logarithmic axis.")] = True,
    smooth: Annotated[
        float | None,
        typer.Option(
            help="Logged steps that the smoothed loss looks back over (default: 1 in 50).", min=1, show_default=False
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open what was drawn with the desktop's viewer.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the files written as JSON.")] = False,
) -> None:
    """Draw the evolution of length generalization, the ratio SW/full, the training loss and the inner loss of a run.

    Several runs are drawn each, and side by side on the token axis in `comparison`, in -o or the folder of the first.

    As html it is report.html, one file without network: criteria, interactive curves, tables, configuration.

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
    """Everything asked for; returns the files written."""
    from tttkit.report.figures.draw import draw_comparison, draw_run

    drawn = [kind for kind in kinds if kind != _PAGE]
    written = []
    for run in directories:
        target = run.path if output is None else output if len(directories) == 1 else output / run.path.name
        written += draw_run(run, target, drawn, scales) if drawn else []
        if _PAGE in kinds:
            written.append(_page(run, target, [other for other in directories if other != run]))
    if len(directories) > 1 and drawn:
        written += draw_comparison(directories, output or directories[0].path.parent, drawn, scales)
    return written


def _page(run: RunDirectory, target: Path, against: list[RunDirectory]) -> Path:
    """report.html, with the curves of the other runs in it."""
    from tttkit.analyze.findings import find
    from tttkit.report.page.html import REPORT_NAME, write_html

    target.mkdir(parents=True, exist_ok=True)
    statements = [f"{item.topic}: {item.statement}" for item in find(run).items]
    return write_html(run, target / REPORT_NAME, findings=statements, against=against)
