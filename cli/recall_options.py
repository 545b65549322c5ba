"""Options of `tttkit recall` that say what is measured."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def _option(text: str, *names: str, **details: Any) -> Any:
    return typer.Option(*names, help=text, show_default=False, **details)


TaskName = Annotated[
    str,
    typer.Option(
        help="second-copy, passkey or ruler on real text; or a task to train models on: mqar, copy, selective-copy, "
        "induction."
    ),
]
Distances = Annotated[
    list[int] | None,
    _option(
        "Tokens between the two copies; may be repeated (default: 0, 1, 2, 5, 10 and 20 x W).", "--distance", min=0
    ),
]
Lengths = Annotated[
    list[int] | None,
    _option(
        "Tokens of an example, except for second-copy; may be repeated (default: 1, 2, 5, 10 and 20 x W, for passkey "
        "also 50 and 100 x W).",
        "--length",
        min=4,
        max=1_000_000,
    ),
]
Items = Annotated[
    list[int] | None,
    _option("Pairs of mqar or values of selective-copy; may be repeated.", "--items", min=1, max=256),
]
Contexts = Annotated[
    list[str] | None,
    _option(
        "Context in which synthetic examples are read: full (default), sw, sw_aligned or reset; may be repeated.",
        "--context",
    ),
]
Examples = Annotated[int, typer.Option(help="Number of passages or examples.", min=2)]
Seed = Annotated[int, typer.Option(help="Seed that chooses the passages or examples.", min=0)]
