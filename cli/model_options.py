"""Options for commands that load models of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Models = Annotated[
    list[Path],
    typer.Argument(help="Model directories, as for `eval checkpoint`; or hf:NAME\\[@REVISION].", metavar="MODEL…"),
]
Data = Annotated[
    Path | None,
    typer.Option(help="DATA directory (default: the data of the run that MODEL belongs to).", show_default=False),
]
Window = Annotated[int | None, typer.Option(help="Window W (default: the training window).", min=1, show_default=False)]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N (default: the GPU, if any).", show_default=False)]
Dtype = Annotated[str, typer.Option(help="Type in which the model computes: auto, fp32, bf16 or fp16.")]
Bos = Annotated[
    str,
    typer.Option(
        help="The model's BOS token in front of every context: `auto` if it was trained so, `always` or `never`."
    ),
]
RemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let Python code in a model directory run, after you have read it.")
]
