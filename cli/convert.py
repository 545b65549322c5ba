"""`tttkit convert`: convert model directories between our format, the official one and that of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.markup import escape

from tttkit.errors import UsageError
from tttkit_cli.console import err, print_json


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="Model directory (ours or official), or a weights file next to its config.json.",
            metavar="IN",
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Directory to write; it must not exist.", metavar="OUT")],
    to: Annotated[
        str | None,
        typer.Option(
            help="tttkit, official or hf, for transformers (default: tttkit, or official if IN has that format).",
            show_default=False,
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Convert a model between our format, the official TTT code and transformers; float32 weights keep every bit.

    A `.pt` or `.bin` file is read as plain tensors only; a file that would run code is refused. `--to hf` writes a
    directory for `AutoModelForCausalLM.from_pretrained(OUT, trust_remote_code=True)`.

    Examples: `tttkit convert runs/quick/best_model official_model` · `tttkit convert runs/quick/best_model out --to hf`
    """
    from tttkit.integrations.export import export_to_hugging_face
    from tttkit.models.convert import Format, convert_model

    if to is not None and to not in get_args(Format):
        raise UsageError(f"unknown format `{to}`", hint=f"formats: {', '.join(get_args(Format))}")
    done = export_to_hugging_face(source, out) if to == "hf" else convert_model(source, out, cast("Format | None", to))
    num_parameters = sum(parameter.numel() for parameter in done.model.parameters())
    summary = {
        "out": str(out), "format": done.target, "model": done.model.config.name, "num_parameters": num_parameters
    }  # fmt: skip
    if json_output:
        print_json(summary)
    else:
        err.print(
            f"wrote [path]{escape(str(out))}[/]: {done.model.config.name}, {num_parameters:,} parameters, "
            f"{done.target} format",
            soft_wrap=True,
        )
