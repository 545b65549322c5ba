"""The option `--engine`, which several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Engine = Annotated[
    str,
    typer.Option(
        help="Where it is computed: `local`, or `ray` on the cluster that RAY_ADDRESS names, else on this machine."
    ),
]
