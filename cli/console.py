"""Both consoles: data on stdout, everything else on stderr. A closed or broken stream never ends a run.

Rich turns a closed pipe into SystemExit and can raise UnicodeEncodeError on an ASCII stream. A training run must
outlive its terminal, so both consoles write through a stream that goes silent instead.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.theme import Theme

PIPED_WIDTH = 120
_THEME = Theme({"error": "bold red", "hint": "cyan", "ok": "green", "warning": "yellow", "path": "cyan"})


class SafeStream(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr, whichever object that is at the moment of writing."""

    def __init__(self, name: str) -> None:
        """Write to the stream of this name in `sys`."""
        self._name = name
        self.broken = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the stream behind this one."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write, replacing what the stream cannot encode; nothing once it is broken."""
        if not self.broken:
            try:
                self._stream.write(text.encode(self.encoding, errors="replace").decode(self.encoding))
            except (OSError, ValueError):
                self.silence()
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        if not self.broken:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self.silence()

    def isatty(self) -> bool:
        """Whether the stream is a terminal that understands control sequences."""
        return bool(self._stream) and self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def fileno(self) -> int:
        """File descriptor of the stream behind this one."""
        return int(self._stream.fileno())

    def silence(self) -> None:
        """Send everything to nowhere from now on, including what Python flushes at exit."""
        self.broken = True
        with suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)

    @property
    def _stream(self) -> Any:
        return getattr(sys, self._name)


def _console(name: str) -> Console:
    stream = SafeStream(name)
    live = stream.isatty()
    width = None if live else int(os.environ.get("COLUMNS") or PIPED_WIDTH)
    return Console(file=stream, theme=_THEME, force_terminal=live, width=width, highlight=False)


out = _console("stdout")
err = _console("stderr")
