"""The two consoles: data goes to stdout, everything else to stderr. A closed or broken stream never ends a run.

Rich turns a closed pipe into SystemExit and can raise UnicodeEncodeError on an ASCII stream. A training run must
outlive its terminal, so both consoles write through a stream that becomes silent instead.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.theme import Theme

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

PIPED_WIDTH = 120
THEME = Theme({"error": "bold red", "hint": "cyan", "ok": "green", "warning": "yellow", "path": "cyan"})


class SafeStream(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr; looks up the actual object at each write."""

    def __init__(self, name: str) -> None:
        """Write to the stream with this name in `sys`."""
        self._name = name
        self.broken = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the actual stream, which decides how tables and bars are drawn."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write, replacing characters that the stream cannot encode; write nothing once it is broken."""
        if not self.broken:
            try:
                self._stream.write(text.encode(self.encoding, errors="replace").decode(self.encoding))
            except (OSError, ValueError):
                self.silence()
        return len(text)

    def flush(self) -> None:
        """Flush the actual stream unless it is broken."""
        if not self.broken:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self.silence()

    def isatty(self) -> bool:
        """Whether the stream is a terminal that understands control sequences."""
        return self.is_screen and os.environ.get("TERM", "dumb") != "dumb"

    @property
    def is_screen(self) -> bool:
        """Whether the stream is a terminal of any kind, so that lines have a width."""
        return bool(self._stream) and self._stream.isatty()

    def fileno(self) -> int:
        """File descriptor of the actual stream."""
        return int(self._stream.fileno())

    def silence(self) -> None:
        """Discard all further output, including what Python flushes at exit."""
        self.broken = True
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)

    @property
    def _stream(self) -> Any:
        stream = getattr(sys, self._name)
        # While a command is connected to Ray, what others print on stdout goes to stderr (`tttkit.cluster.tasks`).
        stream = getattr(stream, "behind_messages", stream)
        # While a progress bar is active, Rich installs a proxy here that prints through the console: through us.
        return getattr(stream, "rich_proxied_file", stream)


def _console(stream: SafeStream) -> Console:
    live = stream.isatty()
    width = None if live else shutil.get_terminal_size((PIPED_WIDTH, 25)).columns
    return Console(
        file=cast("IO[str]", stream), theme=THEME, force_terminal=live, width=width, highlight=False, emoji=False
    )


_STDOUT, _STDERR = SafeStream("stdout"), SafeStream("stderr")
out = _console(_STDOUT)
err = _console(_STDERR)


def stdout_is_gone() -> bool:
    """Whether stdout is broken: its reader is gone."""
    return _STDOUT.broken


def explain(message: str, hint: str | None) -> None:
    """Print an error as one line, and its hint. If stderr is broken, print on the terminal of the process instead.

    In `tttkit train 2>&1 | tee log`, Ctrl-C ends tee at once but training only after it has saved, so stderr is broken
    when training reports how it ended.
    """
    lines = [("error", message), *([("hint", hint)] if hint else [])]
    for name, text in lines:
        err.print(f"[{name}]{name}:[/] {escape(' '.join(text.split()))}", soft_wrap=True)
    if _STDERR.broken:
        _tell_terminal("".join(f"{name}: {' '.join(text.split())}\n" for name, text in lines))


def warn(message: str) -> None:
    """Print a warning as one line."""
    err.print(f"[warning]warning:[/] {escape(message)}", soft_wrap=True)


def _tell_terminal(text: str) -> None:
    """Write to the terminal that started the process, unless another process group is in its foreground."""
    with suppress(OSError):
        descriptor = os.open("/dev/tty", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if os.tcgetpgrp(descriptor) == os.getpgrp():
                os.write(descriptor, text.encode(errors="replace"))
        finally:
            os.close(descriptor)


def mend_streams() -> None:
    """Give the process three usable standard streams, whatever it was started with.

    The next file to be opened would take the number of a closed descriptor, and printed text would end up in that
    file. A stream prints `?` for a character that it cannot encode.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8", closefd=False))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def progress_bar(*columns: str | ProgressColumn, disable: bool = False, expand: bool = False) -> Progress:
    """Return a bar on stderr that disappears when it ends; it shows nothing if stderr is not a terminal."""
    from rich.progress import Progress

    return Progress(
        *columns,
        console=err,
        transient=True,
        refresh_per_second=4,
        redirect_stdout=False,
        disable=disable or not err.is_terminal,
        expand=expand,
    )


def print_table(table: Table, console: Console = out, *, num_keys: int = 1) -> None:
    """Print a table of data: in parts on a narrow terminal, at its full width elsewhere.

    A truncated number is a wrong number, so columns are never narrower than their numbers.
    """
    for part in parts_of(table, room(console), num_keys=num_keys):
        if room(console) is None and (needed := width_of(part)) > console.width:
            part.width = needed
        console.print(part, crop=False)


def parts_of(table: Table, width: int | None, *, num_keys: int = 1) -> list[Table]:
    """Split a table that is wider than `width` terminal columns into tables with some of its columns each.

    Every part begins with the first `num_keys` columns, which identify the row. If one further column is still too
    wide, texts are folded into lines and numbers are not. A `width` of None does not split.
    """
    if width is None or width_of(table) <= width:
        return [table]
    groups: list[list[int]] = []
    for index in range(num_keys, len(table.columns)):
        if groups and width_of(_part_of(table, [*range(num_keys), *groups[-1], index])) <= width:
            groups[-1].append(index)
        else:
            groups.append([index])
    parts = [_part_of(table, [*range(num_keys), *group]) for group in groups]
    for part in parts[1:]:
        part.title = None
    return parts


def _part_of(table: Table, indices: list[int]) -> Table:
    part = Table(title=table.title, title_justify=table.title_justify)
    columns = [list(table.columns[index].cells) for index in indices]
    for index, cells in zip(indices, columns, strict=True):
        column = table.columns[index]
        # A header that is wider than its cells can be folded without breaking a number.
        keeps_width = column.justify == "right" and max(map(_length, cells), default=0) >= _length(column.header)
        part.add_column(column.header, justify=column.justify, overflow="fold", no_wrap=keeps_width)
    for row, row_cells in zip(table.rows, zip(*columns, strict=True), strict=True):
        part.add_row(*row_cells, end_section=row.end_section)
    return part


def _length(text: RenderableType) -> int:
    return Measurement.get(out, out.options, text).maximum


def width_of(table: Table) -> int:
    """Return the number of terminal columns that a table needs to show all of its content."""
    return Measurement.get(out, out.options.update_width(10 * PIPED_WIDTH), table).maximum


def room(console: Console = out) -> int | None:
    """Return the width of the terminal in columns; None without a terminal, where lines may have any length."""
    return console.width if console.is_terminal or getattr(console.file, "is_screen", False) else None


def print_rows(rows: list[tuple[str, str]], console: Console = out) -> None:
    """Print names and texts (markup) in two columns; a long text is folded within its column."""
    console.print(rows_of(rows), crop=False)


def rows_of(rows: list[tuple[str, str]]) -> Table:
    """Return names and texts (markup) as a table of two columns."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, text)
    return table


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON on stdout; on one line when `indent` is None."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    # bytes of a file name that are not UTF-8 become escapes, which JSON reads back
    out.print(text.encode(errors="backslashreplace").decode(), markup=False, soft_wrap=True)
