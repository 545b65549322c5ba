"""Count what a preparation reads and what it leaves out, and say why, so that no text is lost in silence."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

_MOST_KINDS = 40
"""Kinds of left-out things that are told apart, so that a million endings do not fill the manifest."""
RECORDS = "records"
"""Records of a file or data set, in words."""
LeaveOut = Callable[[str, str, str | Path], None]
"""Called with what is left out, why, and its name."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class LeftOut:
    """One kind of thing that was left out."""

    what: str
    """Files or records, in words."""
    why: str
    count: int
    first: str
    """Name of the first one; bytes that are not UTF-8 are written as \\xNN."""


class Account:
    """What was read and what was left out."""

    def __init__(self) -> None:
        self._files: collections.Counter[str] = collections.Counter()
        self._left_out: dict[tuple[str, str], tuple[int, str]] = {}

    def read(self, content: str) -> None:
        """Count one file or stream of a content such as `text`."""
        self._files[content] += 1

    def leave_out(self, what: str, why: str, name: str | Path) -> None:
        """Count one thing that is left out."""
        self._add(what, why, shown(name), 1)

    def _add(self, what: str, why: str, name: str, number: int) -> None:
        key = (what, why)
        if key not in self._left_out and len(self._left_out) >= _MOST_KINDS:
            key = ("other things", "for reasons like these")
        count, first = self._left_out.get(key, (0, name))
        self._left_out[key] = count + number, first

    def merge(self, left_out: Iterable[LeftOut]) -> None:
        """Add what another account left out after everything in this one."""
        for item in left_out:
            self._add(item.what, item.why, item.first, item.count)

    def restart(self) -> None:
        """Forget the records that were left out, before the sources are read again."""
        self._left_out = {key: value for key, value in self._left_out.items() if key[0] != RECORDS}

    @property
    def num_files(self) -> dict[str, int]:
        """Files and streams that were read, by content."""
        return dict(sorted(self._files.items()))

    @property
    def left_out(self) -> list[LeftOut]:
        """Everything that was left out, in the order in which it was first seen."""
        return [
            LeftOut(what=what, why=why, count=count, first=first)
            for (what, why), (count, first) in self._left_out.items()
        ]


def describe(left_out: list[LeftOut]) -> str:
    """Return in one line what was left out, for a message: `3 files ending in .bin (first: a.bin)`."""
    return "; ".join(f"{item.count:,} {item.what}: {item.why} (first: {item.first})" for item in left_out)


def shown(name: str | os.PathLike[str]) -> str:
    """Return a file name as text that UTF-8 can hold: bytes that are not UTF-8 become \\xNN."""
    return os.fsencode(name).decode(errors="backslashreplace")
