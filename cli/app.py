"""The `tttkit` command: registers every verb and turns errors into one line, a hint and an exit code."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from tttkit import __version__
from tttkit.errors import TttkitError, UsageError

from . import data, eval, plot, status, train
from .console import err, out

_LEGACY_NAMES = {
    "gradient-accumulation-steps": "grad-accumulation",
    "max-seq-length": "window",
    "max-train-steps": "max-steps",
    "mixed-precision": "precision",
    "output-dir": "out",
    "per-device-train-batch-size": "batch-size",
}


def _normalize(name: str) -> str:
    """Options under our names: underscores become dashes, and the earlier system's names become today's."""
    name = name.replace("_", "-")
    return _LEGACY_NAMES.get(name, name)


app = typer.Typer(
    name="tttkit",
    help="Train Test-Time-Training language models and measure how far past their training window they hold up.",
    pretty_exceptions_enable=False,
    context_settings={"token_normalize_func": _normalize, "help_option_names": ["-h", "--help"]},
)
app.add_typer(data.data_app, name="data")
app.command("train")(train.train)
app.command("status")(status.status)
app.add_typer(eval.eval_app, name="eval")
app.command("plot")(plot.plot)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"tttkit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every command."""


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(_run(sys.argv[1:] or ["--help"]))


def _run(arguments: list[str]) -> int:
    # --debug works wherever it stands, so that it can be appended to the command that failed.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return app(arguments, standalone_mode=False, prog_name="tttkit") or 0
    except TttkitError as error:
        return _explain(str(error), error.hint, error.exit_code, debug=debug)
    except typer.TyperException as error:
        return _explain(error.format_message(), "see --help", error.exit_code, debug=debug)
    except typer.Abort:
        return 130
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        return _explain(f"{error.strerror}: {error.filename}", None, UsageError.exit_code, debug=debug)


def _explain(message: str, hint: str | None, exit_code: int, *, debug: bool) -> int:
    """Print an error as one line and its hint; the traceback above it on request."""
    if debug:
        err.print(traceback.format_exc(), markup=False)
    err.print(f"[error]error:[/] {_escape(message)}", soft_wrap=True)
    if hint:
        err.print(f"[hint]hint:[/] {_escape(hint)}", soft_wrap=True)
    return exit_code


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(" ".join(text.split()))
