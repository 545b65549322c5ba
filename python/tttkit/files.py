"""The one module that owns every write: temporary name in the same directory, fsync, rename, fsync of the directory.

A reader sees the old file or the new one, never a half. A directory is committed as a whole: its files are written and
synced, `MANIFEST.json` with their sizes and SHA-256 comes last, then one rename. After a crash at any point either the
old state or the new one is there; leftovers start with `.tmp-` and are swept by the holder of the run's lock.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tttkit.errors import DataError, DiskFullError

MANIFEST_NAME = "MANIFEST.json"
TEMPORARY_PREFIX = ".tmp-"
MAX_JSON_BYTES = 256 << 20
_SAFE_NAME = re.compile(r"^[A-Za-z0-9._-]{1,128}$")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` atomically and durably. Raises DiskFullError, or OSError for anything else."""
    temporary = _temporary_name(path)
    with disk_full_named(path):
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 text, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by indented JSON; NaN and infinities become the strings "NaN", "Infinity", "-Infinity"."""
    write_text(path, json.dumps(json_safe(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Parse a JSON file. Raises DataError naming the file when it is missing, too large or not JSON."""
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(f"{path} is {size} bytes, more than the {max_bytes} that such a file may have")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"missing file: {path}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not valid JSON: {error}") from error


def json_safe(value: Any) -> Any:
    """The same value with non-finite floats spelled out, since JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return value


def append_line(path: Path, line: str) -> None:
    """Append one line in a single write, so that a crash tears at most the last line."""
    with disk_full_named(path), path.open("ab", buffering=0) as file:
        file.write(line.encode() + b"\n")


def trim_torn_line(path: Path) -> None:
    """Cut what follows the last newline: the half line that a crash left."""
    if path.is_file():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.truncate(path, whole)


@contextmanager
def commit_directory(path: Path) -> Iterator[Path]:
    """Fill a temporary directory; on leaving without an error it becomes `path`, whole, synced and with a manifest.

    An existing `path` is replaced. Raises DiskFullError; whatever happens, the old `path` stays until the new one is
    complete.
    """
    temporary = _temporary_name(path)
    with disk_full_named(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            _seal(temporary)
            _swap(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def verify_directory(path: Path) -> None:
    """Check every file of a committed directory against its manifest. Raises DataError naming the first fault."""
    manifest = read_json(path / MANIFEST_NAME, max_bytes=1 << 20)
    entries = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{path / MANIFEST_NAME} lists no files")
    for name, entry in entries.items():
        file = path / name
        if not _SAFE_NAME.match(name) or name in (".", "..") or file.is_symlink() or not isinstance(entry, dict):
            raise DataError(f"{path / MANIFEST_NAME} has an unsafe entry: {name!r}")
        if not file.is_file():
            raise DataError(f"missing file: {file}")
        if file.stat().st_size != entry.get("size"):
            raise DataError(f"{file} has {file.stat().st_size} bytes, its manifest says {entry.get('size')}")
        if sha256_of(file) != entry.get("sha256"):
            raise DataError(f"{file} does not have the SHA-256 that its manifest says")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sweep_temporaries(directory: Path) -> list[str]:
    """Remove what interrupted writes left. Only the holder of the directory's lock may call this."""
    leftovers = [entry for entry in directory.iterdir() if entry.name.startswith(TEMPORARY_PREFIX)]
    for entry in leftovers:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    return [entry.name for entry in leftovers]


def remove_directory(path: Path) -> None:
    """Remove a committed directory; renamed away first, so that no half of it is ever taken for whole."""
    doomed = _temporary_name(path)
    path.rename(doomed)
    fsync_directory(path.parent)
    shutil.rmtree(doomed)


def fsync_directory(path: Path) -> None:
    """Make the renames inside a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_full_named(path: Path) -> Iterator[None]:
    """Turn the operating system's "no space" into a DiskFullError that names what was being written."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and not isinstance(error, DiskFullError):
            raise DiskFullError(
                f"disk full while writing {path}", hint="free space, then run the command again"
            ) from error
        raise


def _temporary_name(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.getpid()}-{secrets.token_hex(4)}")


def _seal(directory: Path) -> None:
    """Sync every file with the mode that the umask gives, then write the manifest."""
    entries = {}
    mode = 0o666 & ~_umask()
    for file in sorted(directory.iterdir()):
        with file.open("rb+") as handle:
            os.fchmod(handle.fileno(), mode)  # safetensors writes 0600
            os.fsync(handle.fileno())
        entries[file.name] = {"size": file.stat().st_size, "sha256": sha256_of(file)}
    write_json(directory / MANIFEST_NAME, {"schema_version": 1, "files": entries})


def _swap(temporary: Path, path: Path) -> None:
    """Rename into place; an old directory is renamed away first, since a rename cannot replace a full one."""
    old = None
    if path.exists():
        old = _temporary_name(path)
        path.rename(old)
    temporary.rename(path)
    fsync_directory(path.parent)
    if old is not None:
        with suppress(OSError):
            shutil.rmtree(old)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
