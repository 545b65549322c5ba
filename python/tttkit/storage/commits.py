"""Directories that exist complete or not at all, each with a manifest of its files.

The files are written and synced first, then `MANIFEST.json` with their sizes and SHA-256, then the directory is renamed
into place. After a crash at any point, either the old or the new directory exists, and damage is detected on reading.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tttkit.errors import DataError
from tttkit.storage import files, filesystem

MANIFEST_NAME = "MANIFEST.json"
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS)


Entry = dict[str, Any]
"""Size and SHA-256 of a file in a manifest."""


@contextmanager
def commit_directory(path: Path, entries: Mapping[str, Entry] | None = None) -> Iterator[Path]:
    """Yield a temporary directory to write into; when the block ends without an error, it becomes `path`.

    It is then complete, synced, and has a manifest. An existing `path` is replaced in one step and stays as it is until
    the new one is complete. If other processes write into the directory too, `entries` has the results of `entry_of`
    for their files when the block ends. Raises DiskFullError, OSError.
    """
    temporary = files.temporary_name(path)
    with files.disk_full_named(path):
        try:
            files.make_directory(path.parent)
            filesystem.current.mkdir(temporary)
            yield temporary
            _seal(temporary, entries or {})
        except BaseException:
            with suppress(OSError):
                files.remove_tree(temporary)
            raise
        _swap(temporary, path)


def verify_directory(path: Path) -> dict[str, int]:
    """Check every file of a committed directory against its manifest, and return their sizes in bytes by name.

    Raises DataError naming the first fault.
    """
    entries = _read_manifest(path)
    for name, entry in entries.items():
        _verify(path, name, entry)
    return {name: entry["size"] for name, entry in entries.items()}


def verify_file(file: Path) -> None:
    """Check a file against the manifest of its directory, if that has one which names the file. Raises DataError."""
    manifest = file.parent / MANIFEST_NAME
    entry = _read_manifest(file.parent).get(file.name) if manifest.exists() else None
    if entry is None:
        return
    try:
        _verify(file.parent, file.name, entry)
    except DataError as error:
        hint = f"restore the file; if it was changed on purpose, remove {MANIFEST_NAME}"
        raise DataError(str(error), hint=hint) from None


def _verify(path: Path, name: str, entry: Any) -> None:
    """Check one file of a committed directory against its entry. Raises DataError."""
    file = path / name
    if not files.is_safe_name(name) or file.is_symlink() or not isinstance(entry, dict):
        raise DataError(f"{path / MANIFEST_NAME} has an unsafe entry: {name!r}")
    if not file.is_file():
        raise DataError(f"missing file: {file}")
    if file.stat().st_size != entry.get("size"):
        raise DataError(f"{file} has {file.stat().st_size} bytes, but its manifest says {entry.get('size')}")
    if files.sha256_of(file) != entry.get("sha256"):
        raise DataError(f"{file} does not have the SHA-256 that its manifest records")


def leftovers(directory: Path) -> list[Path]:
    """Return the leftovers of interrupted writes in a directory."""
    return sorted(entry for entry in directory.iterdir() if entry.name.startswith(files.TEMPORARY_PREFIX))


def sweep_temporaries(directory: Path) -> list[str]:
    """Remove the leftovers of interrupted writes in a directory, and return their names.

    Only the holder of the lock of the directory may call this.
    """
    entries = leftovers(directory)
    for entry in entries:
        files.remove_tree(entry)
    return [entry.name for entry in entries]


def remove_directory(path: Path) -> None:
    """Remove a committed directory. It is renamed first, so that it never exists incomplete under its name."""
    doomed = files.temporary_name(path)
    filesystem.current.rename(path, doomed)
    files.fsync_directory(path.parent)
    files.remove_tree(doomed)


def set_aside(path: Path, why: str = "corrupt") -> Path:
    """Rename a damaged file or directory to `NAME.corrupt-n`, and return the new path. Nothing damaged is deleted.

    `why` names another reason than damage.
    """
    target = name_aside(path, why)
    filesystem.current.rename(path, target)
    files.fsync_directory(path.parent)
    return target


def name_aside(path: Path, why: str) -> Path:
    """Return the first free path `NAME.why-n`."""
    index = 0
    while (target := path.with_name(f"{path.name}.{why}-{index}")).exists():
        index += 1
    return target


def entry_of(file: Path) -> Entry:
    """Sync a file, then read it back, and return its entry in the manifest. Raises DiskFullError, OSError."""
    descriptor = filesystem.current.open_existing(file)
    try:
        filesystem.current.sync(descriptor)
    finally:
        filesystem.current.close(descriptor)
    return {"size": file.stat().st_size, "sha256": files.sha256_of(file)}


def _seal(directory: Path, known: Mapping[str, Entry]) -> None:
    """Write the manifest, after every file is synced: those with known entries by the processes that wrote them."""
    entries = {}
    for name in sorted({file.name for file in directory.iterdir()} | known.keys()):
        entries[name] = known[name] if name in known else entry_of(directory / name)
        if (directory / name).stat().st_size != entries[name]["size"]:
            raise OSError(errno.EIO, "a file of another process does not have its size here", str(directory / name))
    files.write_text(directory / MANIFEST_NAME, _manifest_text(entries))


def _manifest_text(entries: dict[str, Any]) -> str:
    return json.dumps({"schema_version": 1, "files": entries}, indent=2) + "\n"


def _read_manifest(path: Path) -> dict[str, Any]:
    """Return the entries of a manifest. Its bytes must equal what we would write, which detects damage to it."""
    file = path / MANIFEST_NAME
    manifest = files.read_json(file, max_bytes=16 << 20)
    entries = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{file} lists no files")
    if file.read_bytes() != _manifest_text(entries).encode():
        raise DataError(f"{file} has changed since it was written")
    return entries


def _swap(temporary: Path, path: Path) -> None:
    """Rename a complete directory to `path`; an existing one is exchanged with it, so that the name always exists."""
    old = None
    try:
        if path.exists():
            old = _exchange(temporary, path)
        else:
            filesystem.current.rename(temporary, path)
    except BaseException:
        with suppress(OSError):
            files.remove_tree(temporary)
        raise
    # The old directory stays under its temporary name until this has succeeded.
    files.fsync_directory(path.parent)
    if old is not None:
        with suppress(OSError):
            files.remove_tree(old)


def _exchange(temporary: Path, path: Path) -> Path:
    """Exchange two directories, or rename twice if the file system cannot; return the new path of the old one."""
    try:
        filesystem.current.exchange(temporary, path)
        return temporary
    except OSError as error:
        if error.errno not in _NO_EXCHANGE:
            raise
    old = files.temporary_name(path)
    filesystem.current.rename(path, old)
    try:
        filesystem.current.rename(temporary, path)
    except OSError:
        filesystem.current.rename(old, path)
        raise
    return old
