"""Walk a directory tree in a fixed order, and tell the kinds of files apart by their suffixes."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from tttkit.errors import UsageError

TEXT_SUFFIXES = (".txt", ".text", ".md", ".raw", ".tokens")
RECORD_SUFFIXES = (".jsonl", ".parquet")
COMPRESSIONS = (".gz", ".xz", ".zst")


def inner_suffix(path: Path) -> str:
    """Return the suffix before any compression suffix, in lower case: `.jsonl` for `a.jsonl.zst`."""
    return Path(path.stem).suffix.lower() if is_compressed(path) else path.suffix.lower()


def is_compressed(path: Path) -> bool:
    """Whether the suffix marks a compressed file."""
    return path.suffix.lower() in COMPRESSIONS


def walk(root: Path, is_wanted: Callable[[str], bool], skipped: Container[str] = ()) -> Iterator[Path]:
    """Yield the files below `root` whose names are wanted, sorted bytewise by path.

    Links to directories are not followed, and directories whose names are in `skipped` are left out. A directory sorts
    by its name with a slash, which is how it appears in the paths of its files: `a-b` comes before `a/c`. Memory holds
    only the names in one directory and in the directories above it. Raises UsageError for a directory that cannot be
    read.
    """
    levels = [(root, _names(root, is_wanted, skipped))]
    while levels:
        folder, names = levels[-1]
        if not names:
            levels.pop()
            continue
        name = os.fsdecode(names.pop())
        if name.endswith("/"):
            below = folder / name
            levels.append((below, _names(below, is_wanted, skipped)))
        else:
            yield folder / name


def _names(folder: Path, is_wanted: Callable[[str], bool], skipped: Container[str]) -> list[bytes]:
    """Return the wanted names in one directory in reverse order; names of directories end with a slash."""
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in skipped:
                        names.append(os.fsencode(entry.name) + b"/")
                elif is_wanted(entry.name) and entry.is_file():
                    names.append(os.fsencode(entry.name))
    except OSError as error:
        raise UsageError(f"cannot read directory {folder}: {error.strerror}") from error
    names.sort(reverse=True)
    return names
