"""Sources that are files: a file, the files of a folder, the files that match a glob, and the Python library."""

from __future__ import annotations

import glob
import itertools
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tttkit.data.account import Account, LeaveOut, describe, shown
from tttkit.data.file_tree import refuse_loop, walk
from tttkit.data.formats import AUTO, JSON, format_of, known_endings
from tttkit.data.opening import check_file, damage_named, open_binary
from tttkit.data.reader import Reading
from tttkit.data.records import json_fields
from tttkit.errors import DataError, UsageError

FORMS = "a file, directory, glob, -, hf:NAME[:CONFIG] or stdlib"
_NOT_STDLIB = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
_JSON_HEAD = 1 << 20
"""Bytes of a .json file in which its first record is looked for."""
_APPLE_DOUBLE = "._"


def find_files(text: str, rules: Reading, leave_out: LeaveOut) -> Iterator[Path]:
    """Return the files that a SOURCE names, sorted bytewise by path. Raises UsageError when there are none."""
    path = Path(text)
    if path.is_dir():
        return _folder_files(path, rules, leave_out)
    if path.exists() or path.is_symlink():
        return iter([path])
    if not glob.has_magic(text):
        raise UsageError(f"no such source: {shown(text)}", hint=f"expected {FORMS}")
    return _matching_files(text, leave_out)


def _folder_files(root: Path, rules: Reading, leave_out: LeaveOut) -> Iterator[Path]:
    account, is_empty = Account(), True

    def note(what: str, why: str, name: str | Path) -> None:
        account.leave_out(what, why, name)
        leave_out(what, why, name)

    def is_wanted(name: str) -> bool:
        return not name.startswith(_APPLE_DOUBLE) and (rules.format != AUTO or format_of(name).content is not None)

    for path in walk(root, is_wanted, leave_out=note):
        if rules.format == AUTO and format_of(path).content == JSON and not _holds_records(path, rules.field, note):
            continue
        is_empty = False
        yield path
    if is_empty:
        found = describe(account.left_out)
        raise UsageError(
            f"no text in directory {shown(root)}" + (f", which holds {found}" if found else ""),
            hint=f"expected files with suffix {known_endings()}; a glob or --format names others",
        )


def _holds_records(path: Path, field: str, leave_out: LeaveOut) -> bool:
    """Whether a .json file of a folder holds records with the text field. Settings and indexes are JSON too."""
    try:
        check_file(path, JSON)
        with open_binary(path) as file, damage_named(path):
            head = file.read(_JSON_HEAD)
    except DataError:
        return True  # reading it names what is wrong
    fields = json_fields(head)
    if (f'"{field}"'.encode() in head) if fields is None else (field in fields):
        return True
    leave_out("files ending in .json", f"their first record has no field `{field}`", path)
    return False


def _matching_files(pattern: str, leave_out: LeaveOut) -> Iterator[Path]:
    """Return the files that match a glob. Its first parts are taken as they are if a folder has that very name."""
    base, parts = _literal_start(pattern)
    escaped = os.path.join(glob.escape(base), *parts) if base else os.path.join(*parts)  # noqa: PTH118
    paths = []
    followed: set[str] = set()
    for match in glob.iglob(escaped, recursive=True):  # noqa: PTH207
        _refuse_loops(Path(match), Path(base or "."), followed)
        if os.path.isfile(match):  # noqa: PTH113
            paths.append(match)
        elif not os.path.isdir(match):  # noqa: PTH112
            leave_out("matches of a glob", "they are not files", match)
        elif "**" not in parts:
            leave_out("folders that match a glob", "a glob gives files; name the folders to read them", match)
    if not paths:
        raise UsageError(
            f"no file matches {shown(pattern)}",
            hint="`[`, `*` and `?` are patterns unless a file or folder has that very name; write [[] for a bracket",
        )
    return map(Path, sorted(paths, key=os.fsencode))


def _literal_start(pattern: str) -> tuple[str, list[str]]:
    """Split a glob after its longest start that exists under that very name."""
    base, rest = "", pattern.split(os.sep)  # noqa: PTH206 - empty parts say where the root is
    while len(rest) > 1:
        candidate = os.path.join(base, rest[0]) if base else rest[0] or os.sep  # noqa: PTH118
        if not os.path.lexists(candidate):
            break
        base, rest = candidate, rest[1:]
    return base, rest


def _refuse_loops(match: Path, base: Path, followed: set[str]) -> None:
    """Refuse a link above a match that leads back to a folder above it: the glob `**` would repeat its files."""
    for folder in match.parents:
        name = str(folder)
        if name in followed:
            return
        followed.add(name)
        if folder != base and folder.is_symlink():
            refuse_loop(folder, base)


def standard_library() -> Iterator[Path]:
    """Return the modules of this interpreter's library without its tests, sorted bytewise by path.

    Raises UsageError when their source is not installed.
    """
    root = Path(sysconfig.get_path("stdlib"))
    modules = walk(root, lambda name: name.endswith(".py"), skipped=_NOT_STDLIB, follow_links=False)
    first = next(modules, None)
    if first is None:
        raise UsageError(
            f"the source of the Python library is not in {root}", hint="name a text file or directory instead"
        )
    return itertools.chain([first], modules)
