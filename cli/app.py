"""The `tttkit` command: runs a verb and turns an error into one line, a hint and an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from tttkit import __version__
from tttkit.errors import DeviceMemoryError, DiskFullError, TttkitError, UsageError
from tttkit_cli.console import err, explain, mend_streams, out
from tttkit_cli.earlier import present_name
from tttkit_cli.verbs import Verbs

_BUG = 1
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of the operating system for a place where this user may not write."""
_SHORTAGE = "the sizes that were asked for do not fit in memory", "choose smaller sizes, or another device"
_SHORTAGE_WORDS = (
    "can't allocate memory", "not enough memory", "out of memory", "calculation overflowed", "multiplication overflow",
)  # fmt: skip
"""Parts of torch's messages about memory; most of them have no class of their own."""
_INTERRUPTED = 128 + signal.SIGINT

app = typer.Typer(
    name="tttkit",
    cls=Verbs,
    help="Train Test-Time-Training language models and measure how far past their training window they hold up.",
    pretty_exceptions_enable=False,
    context_settings={"token_normalize_func": present_name, "help_option_names": ["-h", "--help"]},
)


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
    mend_streams()
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run(sys.argv[1:] or ["--help"]))


def _run(arguments: list[str]) -> int:
    # --debug is accepted at any place, so that it can be appended to the command that failed.
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        _check_current_directory()
        return app(arguments, standalone_mode=False, prog_name="tttkit") or 0
    except TttkitError as error:
        return _explain(str(error), error.hint, error.exit_code, debug=debug)
    except typer.TyperException as error:
        return _explain(error.format_message(), "see --help", error.exit_code, debug=debug)
    except (typer.Abort, KeyboardInterrupt):
        return _explain("interrupted", None, _INTERRUPTED, debug=debug)
    except SystemExit as end:
        # Rich, which prints typer's help, exits with 1 when the reader of a pipe is gone: `tttkit --help | head`.
        if isinstance(end.__context__, BrokenPipeError):
            return 0
        raise
    except MemoryError:
        return _explain(*_SHORTAGE, DeviceMemoryError.exit_code, debug=debug)
    except OSError as error:
        return _explain(*_describe(error), _exit_code(error), debug=debug)
    except ImportError as error:
        hint = "reinstall tttkit with its dependencies; in a checkout: make build"
        return _explain(f"cannot load {error.name or 'a package'}: {error}", hint, _BUG, debug=debug)
    except Exception as error:  # noqa: BLE001 - a user sees a traceback only on request
        if any(words in str(error) for words in _SHORTAGE_WORDS):
            return _explain(*_SHORTAGE, DeviceMemoryError.exit_code, debug=debug)
        hint = "this is a bug in tttkit; --debug shows where"
        return _explain(f"{type(error).__name__}: {error}", hint, _BUG, debug=debug)


def _check_current_directory() -> None:
    """Raise UsageError if the current directory was deleted: torch's libraries abort the process there."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the current directory was deleted", hint="change to another one with cd") from error


def _terminate(number: int, _frame: object) -> NoReturn:
    """Exit cleanly on SIGTERM outside of training: unfinished files are removed and the cursor is restored."""
    raise SystemExit(128 + number)


def _describe(error: OSError) -> tuple[str, str | None]:
    """Return the system's message with the path that the user knows, and a hint if writing a new file failed."""
    from tttkit.storage.files import final_name

    if not isinstance(error.filename, str | os.PathLike):
        return str(error.strerror or error), None
    name = os.fspath(error.filename)
    shown = final_name(name)
    hint = None
    if shown != name:
        hint = "nothing was written there; choose another place with --out"
    elif error.errno in _DENIED and Path(shown).exists() and not os.access(shown, os.R_OK):
        hint = "you may not read it: ask its owner, who can change that with chmod"
    elif error.errno in _DENIED and not os.access(Path(shown).parent, os.W_OK):
        hint = "you may not write there: choose another place with --out, or work on a copy"
    return f"{error.strerror or error}: {shown}", hint


def _exit_code(error: OSError) -> int:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFullError.exit_code
    by_path = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
    is_path = isinstance(error, by_path) or error.errno in (errno.ELOOP, errno.ENAMETOOLONG, errno.EROFS)
    return UsageError.exit_code if is_path else _BUG


def _explain(message: str, hint: str | None, exit_code: int, *, debug: bool) -> int:
    """Print an error as one line and its hint, preceded by the traceback on request."""
    if debug:
        import traceback

        err.print(traceback.format_exc(), markup=False, soft_wrap=True)
    explain(message, hint)
    return exit_code
