"""`tttkit doctor`: checks a run or this machine, and repairs what can be repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from tttkit.errors import DataError
from tttkit.run.directory import find_run
from tttkit_cli.console import err, out, print_json

_COLOURS = {"ok": "ok", "fixed": "ok", "warning": "warning", "error": "error"}


def doctor(
    run: Annotated[Path | None, typer.Argument(help="RUN directory (default: this machine only).")] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair: move damaged files aside, cut torn lines, remove leftovers.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check a run: digests, leftovers, torn lines, numbers, data, disk, clock. Without RUN, check the environment
    and leftovers of killed commands in the current directory.

    Exits with 65 if an error remains. Example: `tttkit doctor runs/quick --fix`
    """
    from tttkit.health.doctor import examine_run
    from tttkit.health.environment import examine_environment

    findings = examine_environment(fix=fix) if run is None else examine_run(find_run(run), fix=fix)
    if json_output:
        print_json([finding.to_dict() for finding in findings])
    else:
        table = Table.grid(padding=(0, 2))
        for no_wrap in (True, True, False):
            table.add_column(no_wrap=no_wrap, overflow="fold")
        for finding in findings:
            table.add_row(f"[{_COLOURS[finding.level]}]{finding.level}[/]", finding.check, escape(finding.message))
        out.print(table)
        for hint in dict.fromkeys(finding.hint for finding in findings if finding.level in ("warning", "error")):
            if hint:
                err.print(f"[hint]hint:[/] {escape(hint)}", soft_wrap=True)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(DataError.exit_code)
