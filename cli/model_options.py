"""Options for commands that load models of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def output_option(usual: str) -> Any:
    """Return the option --out of a command that writes to the directory `usual` without it."""
    return typer.Option("--out", help=f"Output directory (default: {usual}).", show_default=False)


Models = Annotated[
    list[Path],
    typer.Argument(help="Model directories, as for `eval checkpoint`; or hf:NAME\\[@REVISION].", metavar="MODEL…"),
]
Data = Annotated[
    Path | None,
    typer.Option(help="DATA directory (default: the data of the run that MODEL belongs to).", show_default=False),
]
Texts = Annotated[
    list[Path] | None,
    typer.Option(
        "--text",
        help="Text file in place of DATA, with each model's own tokenizer; may be repeated.",
        show_default=False,
    ),
]
Split = Annotated[str, typer.Option(help="Split of the data to read.")]
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
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
