"""`tttkit bench data`: time text to token shards beside the installed peers, with one tokenizer or several."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tttkit.errors import UsageError
from tttkit.storage.files import write_text
from tttkit_cli.console import err, print_json, print_table

if TYPE_CHECKING:
    from tttkit.data.benchmark import Measurement


def data(
    sources: Annotated[list[str], typer.Argument(help="Text files, directories or globs.", metavar="SOURCE…")],
    tokenizer: Annotated[
        list[str], typer.Option(help="Tokenizer as in `data prepare`, except bpe:N; may be repeated.")
    ],
    threads: Annotated[
        list[int] | None, typer.Option(help="Number of threads; may be repeated.", min=1, show_default="1")
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="Number of measurements; their medians are shown.", min=1, max=10_000)
    ] = 3,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Time the conversion of text to token shards, on your own files.

    Every measurement runs in a new process, as in a first call. Several tokenizers get one more table.

    Example: `tttkit bench data corpus/ --tokenizer gpt2/tokenizer.json --threads 1 --threads 8`
    """
    from tttkit.data.benchmark import machine, measure_preparation, missing_peers, text_files
    from tttkit.data.tokenizer import load_tokenizer

    if len(set(tokenizer)) < len(tokenizer):
        raise UsageError("a tokenizer is named twice")
    loaded, paths = {name: load_tokenizer(name) for name in tokenizer}, text_files(sources)
    measured: dict[str, list[Measurement]] = {}
    for name, one in loaded.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tokenizer.json"
            write_text(path, one.json)
            measured[name] = measure_preparation(paths, path, threads=threads or [1], rounds=rounds)
        if not json_output:
            print_table(preparation_table(measured[name], machine(), name if len(loaded) > 1 else None))
    if json_output:
        rows = [{"tokenizer": name, **dataclasses.asdict(row)} for name, rows in measured.items() for row in rows]
        print_json({"machine": machine(), "rows": rows, "missing": missing_peers()})
    elif len(measured) > 1:
        print_table(tokenizers_table(measured))
    if missing := missing_peers():
        err.print(f"not installed, so not measured: {', '.join(missing)}; pip install {' '.join(missing)}")


def preparation_table(rows: Sequence[Measurement], machine: dict[str, Any], tokenizer: str | None = None) -> Table:
    """Build a table with a row per engine: text, speed by the clock and by CPU time, and how the first row compares."""
    where = f"{machine['processor']}, {machine['num_cores']} cores, {' '.join(machine['features'])}"
    what = f" of {tokenizer}" if tokenizer else ""
    table = Table(title=f"text to tokens{what}, medians; {where}", title_justify="left")
    for name in ("engine", "MB", "MB/s", "MB per CPU s", "first row is", "by CPU time"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    for row in rows:
        megabytes = row.num_bytes / 1e6
        speeds = (megabytes, megabytes / row.seconds, megabytes / row.cpu_seconds)
        ratios = (row.first_is, row.first_is_by_cpu)
        table.add_row(row.engine, *(f"{speed:,.1f}" for speed in speeds), *(f"{ratio:,.2f}x" for ratio in ratios))
    return table


def tokenizers_table(measured: Mapping[str, Sequence[Measurement]]) -> Table:
    """Build a table with a row per tokenizer: our speed, and how many times as fast that is as each other engine.

    Ratios are by CPU time; those to more threads of our own are by the clock.
    """
    engines = list(dict.fromkeys(row.engine for rows in measured.values() for row in rows[1:]))
    table = Table(title="MB per CPU second of the first engine, and its ratio to each other", title_justify="left")
    first = next(iter(measured.values()))[0].engine
    for column in ("tokenizer", first, *engines):
        table.add_column(column, justify="left" if column == "tokenizer" else "right")
    for name, rows in measured.items():
        ratios = {row.engine: row.first_is if "threads" in row.engine else row.first_is_by_cpu for row in rows}
        cells = (f"{ratios[engine]:.2f}x" if engine in ratios else "–" for engine in engines)
        table.add_row(name, f"{rows[0].num_bytes / 1e6 / rows[0].cpu_seconds:.0f}", *cells)
    return table
