"""Options for commands that load models of any kind."""

from __future__ import annotations

from typing import Annotated

import typer

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
