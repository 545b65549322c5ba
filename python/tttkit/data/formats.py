"""The one table of file endings: what the content of a file is, and how it is compressed.

Folders, single files, pipes and stdin all ask this table. `signatures.py` checks that a content is what its name says.
"""

from __future__ import annotations

import dataclasses
import os

TEXT, JSON_LINES, JSON, PARQUET = "text", "jsonl", "json", "parquet"
AUTO = "auto"
DATA_SET = "data set"
"""Stands beside the kinds of content where what was read is counted."""
CONTENTS = (TEXT, JSON_LINES, JSON, PARQUET)
"""Kinds of content: plain text, one JSON record per line, JSON of any layout, parquet."""

_ENDINGS = {
    ".txt": TEXT, ".text": TEXT, ".md": TEXT, ".raw": TEXT, ".tokens": TEXT,
    ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".jsonlines": JSON_LINES, ".jl": JSON_LINES,
    ".json": JSON,
    ".parquet": PARQUET,
}  # fmt: skip
COMPRESSIONS = {".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bzip2"}
"""Endings of compressed files, which follow the ending of the content: `.txt.gz`."""


@dataclasses.dataclass(frozen=True)
class Format:
    """What the name of a file says about it."""

    ending: str
    """The ending of the content in lower case, without that of the compression; empty if there is none."""
    content: str | None
    """One of `CONTENTS`; None for an ending that is not in the table."""
    compression: str | None
    """Ending of the compression, or None."""


def format_of(name: str | os.PathLike[str]) -> Format:
    """Return the format of a file by its name."""
    stem, compression = _cut_ending(os.fspath(name).rstrip("/").rpartition("/")[2])
    if compression not in COMPRESSIONS:
        return Format(compression, _ENDINGS.get(compression), None)
    _, ending = _cut_ending(stem)
    return Format(ending, _ENDINGS.get(ending), compression)


def _cut_ending(name: str) -> tuple[str, str]:
    """Cut a file name before its last ending, as `PurePath.suffix` does, but fast enough for a folder of many files."""
    stem, _, ending = name.rpartition(".")
    return (stem, f".{ending.lower()}") if stem and ending else (name, "")


def known_endings() -> str:
    """Return the endings of the table for a message."""
    return f"{', '.join(_ENDINGS)} (also {', '.join(COMPRESSIONS)})"
