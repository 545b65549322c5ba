"""Options of `tttkit train`, some of which `tttkit resume` has too, that are no fields of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tttkit_cli.flags import LOOP_PANEL

RUN_PANEL = "Run"
SCREEN_PANEL = "Screen"

AutoMicrobatch = Annotated[
    bool,
    typer.Option(
        "--auto-microbatch",
        help="Halve the micro-batch when memory runs out; the batch of an update stays the same.",
        rich_help_panel=RUN_PANEL,
    ),
]
Grace = Annotated[
    float, typer.Option(help="Seconds after SIGTERM before the process exits.", min=0, rich_help_panel=RUN_PANEL)
]
AllowDataChange = Annotated[
    bool,
    typer.Option("--allow-data-change", help="Resume even if the data fingerprint changed.", rich_help_panel=RUN_PANEL),
]
Plain = Annotated[
    bool, typer.Option("--plain", help="Print lines instead of a progress bar.", rich_help_panel=SCREEN_PANEL)
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors and the result only.", rich_help_panel=SCREEN_PANEL)]
JsonEvents = Annotated[
    bool, typer.Option("--json", help="Print events as JSON lines on stdout.", rich_help_panel=SCREEN_PANEL)
]


Track = Annotated[
    str | None,
    typer.Option(
        help="Export the run while it trains: tensorboard, wandb, trackio or csv, as `tttkit export` does.",
        rich_help_panel=RUN_PANEL,
        show_default=False,
        metavar="TRACKER",
    ),
]


def _option(panel: str, text: str, *names: str, hidden: bool = False, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_default=False, hidden=hidden, metavar=metavar)


ConfigFile = Annotated[Path | None, typer.Argument(help="TOML file with sections model, data, optimizer, train, …")]
Preset = Annotated[str | None, _option(RUN_PANEL, "Named experiment to start from (default: quick).")]
Data = Annotated[Path | None, _option(RUN_PANEL, "DATA directory made by `tttkit data prepare`.")]
Output = Annotated[
    Path | None, _option(RUN_PANEL, "RUN directory (default: runs/PRESET).", "--out", "--curriculum-dir")
]
Assignments = Annotated[
    list[str] | None, _option(RUN_PANEL, "Set any value: section.key=value. May be repeated.", "--set")
]
InitFrom = Annotated[
    str | None,
    _option(
        RUN_PANEL,
        "Start with the weights of a model directory, a run or a training checkpoint (RUN@STEP).",
        metavar="MODEL_OR_RUN",
    ),
]
BranchFrom = Annotated[
    str | None,
    _option(
        RUN_PANEL,
        "Continue from a training checkpoint of another run, with its settings except those that are given.",
        metavar="RUN@STEP",
    ),
]
Resume = Annotated[bool, typer.Option(help="Resume an unfinished run.", rich_help_panel=RUN_PANEL)]
Extend = Annotated[
    bool,
    _option(RUN_PANEL, "Train the run in --out for --max-steps in place of the steps it was planned with.", "--extend"),
]
AllowChange = Annotated[
    list[str] | None,
    _option(RUN_PANEL, "Resume even if KEY (section.key or world_size) changed. May be repeated."),
]
DryRun = Annotated[bool, _option(RUN_PANEL, "Print the resolved configuration and exit.", "--dry-run")]
Model = Annotated[
    str | None,
    _option(
        LOOP_PANEL,
        "Model: ttt-linear, ttt-mlp, sw, transformer, gated-deltanet, deltanet, mamba2, lact, titans or rwkv7.",
    ),
]
ModelSize = Annotated[str | None, _option(LOOP_PANEL, "Size from the official table: 125m, 350m, 760m or 1b.")]
StatePassing = Annotated[
    bool | None,
    _option(
        LOOP_PANEL,
        "Accepted from the earlier system; has no effect.",
        "--state-passing/--no-state-passing",
        hidden=True,
    ),
]
