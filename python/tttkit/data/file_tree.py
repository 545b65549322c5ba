"""Walk a directory tree in a fixed order."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from tttkit.data.account import LeaveOut, shown
from tttkit.data.formats import format_of
from tttkit.errors import UsageError

_ENDING = "their ending is not one that tttkit reads in a folder"


def walk(
    root: Path,
    is_wanted: Callable[[str], bool],
    *,
    skipped: Container[str] = (),
    follow_links: bool = True,
    leave_out: LeaveOut = lambda *_: None,
) -> Iterator[Path]:
    """Yield the files below `root` whose names are wanted, sorted bytewise by path.

    Directories whose names are in `skipped` are left out without a word; everything else that is not yielded goes to
    `leave_out`. Links are followed, except those to a directory inside `root`, which is read at its own place, and
    all links to directories if `follow_links` is false. A directory sorts by its name with a slash, which is how it
    appears in the paths of its files: `a-b` comes before `a/c`. Memory holds only the names in one directory and in
    the directories above it. Raises UsageError for a directory that cannot be read, and for a link to a directory
    above it, which would never end.
    """
    tree = _Tree(root, is_wanted, skipped, follow_links, leave_out)
    levels = [(root, tree.names(root))]
    while levels:
        folder, names = levels[-1]
        if not names:
            levels.pop()
            continue
        name = os.fsdecode(names.pop())
        if name.endswith("/"):
            below = folder / name
            levels.append((below, tree.names(below)))
        else:
            yield folder / name


def refuse_loop(link: Path, root: Path) -> None:
    """Raise UsageError if a link below `root` leads to a directory that it was reached through."""
    target = os.path.realpath(link)
    above = (folder for folder in link.parents if folder.is_relative_to(root))
    if any(Path(os.path.realpath(folder)).is_relative_to(target) for folder in above):
        raise UsageError(
            f"{shown(link)} is a link to a folder that contains it ({shown(target)}), so its files never end",
            hint="remove the link, or name the folders beside it one by one",
        )


class _Tree:
    """The rules of one walk."""

    def __init__(
        self,
        root: Path,
        is_wanted: Callable[[str], bool],
        skipped: Container[str],
        follow_links: bool,
        leave_out: LeaveOut,
    ) -> None:
        self._root, self._is_wanted, self._skipped = root, is_wanted, skipped
        self._follow_links, self._leave_out = follow_links, leave_out

    def names(self, folder: Path) -> list[bytes]:
        """Return the names to read in one directory in reverse order; names of directories end with a slash."""
        names = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if self._is_directory(entry):
                        names.append(os.fsencode(entry.name) + b"/")
                    elif self._is_file(entry):
                        names.append(os.fsencode(entry.name))
        except OSError as error:
            raise UsageError(f"cannot read directory {folder}: {error.strerror}") from error
        names.sort(reverse=True)
        return names

    def _is_directory(self, entry: os.DirEntry[str]) -> bool:
        if not entry.is_dir(follow_symlinks=False):
            return self._follow_links and entry.is_symlink() and entry.is_dir() and self._is_followed(Path(entry.path))
        return entry.name not in self._skipped

    def _is_followed(self, link: Path) -> bool:
        refuse_loop(link, self._root)
        if Path(os.path.realpath(link)).is_relative_to(os.path.realpath(self._root)):
            self._leave_out("links to folders", "the folder is inside the source and read at its own place", link)
            return False
        return True

    def _is_file(self, entry: os.DirEntry[str]) -> bool:
        """Whether an entry that is no directory to read is a file to read; if not, it is left out."""
        if entry.is_dir():
            return False
        if entry.is_file():
            if self._is_wanted(entry.name):
                return True
            if entry.name.startswith("."):
                self._leave_out("hidden files", "their names begin with a dot", entry.path)
                return False
            format_ = format_of(entry.name)
            ending = shown(format_.ending + (format_.compression or ""))
            self._leave_out(f"files ending in {ending}" if ending else "files without an ending", _ENDING, entry.path)
        elif entry.is_symlink():
            self._leave_out("broken links", "they lead nowhere", entry.path)
        else:
            self._leave_out("pipes, sockets or devices", "they are not files", entry.path)
        return False
