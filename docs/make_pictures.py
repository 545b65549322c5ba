"""Make the pictures of the documentation from a finished run of the quick preset: `python docs/make_pictures.py RUN`.

Without RUN it first trains a run in a temporary folder, which takes minutes on two cores.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tttkit.analyze.curves import load_curves
from tttkit.health.status import read_status
from tttkit.report.figures.position import plot_evolution
from tttkit.report.figures.ratio import plot_ratio_by_position
from tttkit.run.directory import RunDirectory, find_run
from tttkit_cli.console import THEME
from tttkit_cli.views.status import details

DOCS = Path(__file__).resolve().parent
COLUMNS = 104
TRAIN = "from tttkit_cli.app import main; main()"


def main() -> None:
    """Write evolution.png, ratio.png and status.svg next to this file."""
    if len(sys.argv) > 1:
        draw(find_run(Path(sys.argv[1])), DOCS)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs" / "quick"
        subprocess.run([sys.executable, "-c", TRAIN, "train", "--preset", "quick", "--out", str(path)], check=True)
        draw(find_run(path), DOCS)


def draw(run: RunDirectory, target: Path) -> None:
    """Draw the pictures of a finished run into the folder `target`."""
    curves = load_curves(run)
    plot_evolution(curves, target / "evolution.png")
    plot_ratio_by_position(curves[-1], target / "ratio.png")
    console = Console(record=True, width=COLUMNS, theme=THEME, highlight=False, force_terminal=True, file=io.StringIO())
    console.print("$ tttkit status runs/quick", style="bold")
    for part in details(read_status(run), width=None):
        console.print(part)
    svg = console.export_svg(title="tttkit status", unique_id="tttkit")
    # Rich refers to a font on another host; a page with this picture must work without a network.
    (target / "status.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.S))


if __name__ == "__main__":
    main()
