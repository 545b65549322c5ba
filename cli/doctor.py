"""`tttkit doctor`: what is wrong with a run or with this machine, and mending it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tttkit.errors import DataError
from tttkit.run.directory import find_run
from tttkit_cli.console import err, out, print_json

_COLOURS = {"ok": "ok", "mended": "ok", "warning": "warning", "error": "error"}


def doctor(
    run: Annotated[Path | None, typer.Argument(help="RUN directory (default: this machine only).")] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Mend: set damage aside, cut torn lines, remove leftovers.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Verify a run: digests, leftovers, torn lines, numbers, data, disk, clock; without RUN the environment
    and what killed commands left in the current directory.

    Exits 65 when something is wrong that is not mended. Example: `tttkit doctor runs/quick --fix`
    """
    from tttkit.health.doctor import examine_run
    from tttkit.health.environment import examine_environment

    found = examine_environment(fix=fix) if run is None else examine_run(find_run(run), fix=fix)
    if json_output:
        print_json([finding.to_dict() for finding in found])
    else:
        table = Table.grid(padding=(0, 2))
        for is_whole in (True, True, False):
            table.add_column(no_wrap=is_whole, overflow="fold")
        for finding in found:
            table.add_row(f"[{_COLOURS[finding.level]}]{finding.level}[/]", finding.check, escape(finding.message))
        out.print(table)
        for hint in dict.fromkeys(finding.hint for finding in found if finding.level in ("warning", "error")):
            if hint:
                err.print(f"[hint]hint:[/] {escape(hint)}", soft_wrap=True)
    if any(finding.level == "error" for finding in found):
        raise typer.Exit(DataError.exit_code)
