"""`tttkit bench`: measured here, beside the peers that are installed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .console import err, print_json, print_table

bench_app = typer.Typer(no_args_is_help=False, help="Measure this machine, beside the peers that are installed.")


@bench_app.command()
def data(
    files: Annotated[list[Path], typer.Argument(help="Text files.", metavar="FILE…", exists=True, dir_okay=False)],
    tokenizer: Annotated[Path, typer.Option(help="tokenizer.json to encode with.", exists=True, dir_okay=False)],
    threads: Annotated[
        list[int] | None, typer.Option(help="Threads; may be repeated.", min=1, show_default="1")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Times that everything is measured; medians are shown.", min=1)] = 3,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Time text to token shards on your own files.

    Example: `tttkit bench data corpus.txt --tokenizer gpt2/tokenizer.json --threads 1 --threads 8`
    """
    from tttkit.data.benchmark import measure_preparation

    rows = measure_preparation(files, tokenizer, threads=threads or [1], rounds=rounds)
    if json_output:
        print_json([dataclasses.asdict(row) for row in rows])
        return
    first = rows[0].num_bytes / rows[0].cpu_seconds
    table = Table(title="text to tokens, medians")
    for name in ("engine", "MB", "MB/s", "MB per CPU s", "first row is"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    for row in rows:
        rate = row.num_bytes / row.cpu_seconds
        speeds = (row.num_bytes / 1e6, row.num_bytes / 1e6 / row.seconds, rate / 1e6)
        table.add_row(row.engine, *(f"{speed:,.1f}" for speed in speeds), f"{first / rate:,.2f}x")
    print_table(table)
    err.print("peers are measured where they are installed: pip install gigatoken")
