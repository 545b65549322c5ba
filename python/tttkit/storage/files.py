"""Every write of a file: temporary name in the same directory, fsync, rename, fsync of the directory.

A reader sees the old file or the new one, never a half. Leftovers of a crash start with `.tmp-` and are swept by the
holder of the run's lock. Whole directories are in `commits`; the system's calls are in `filesystem`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tttkit.errors import DataError, DiskFullError
from tttkit.storage import filesystem

TEMPORARY_PREFIX = ".tmp-"
MAX_JSON_BYTES = 256 << 20
MAX_JSON_DEPTH = 32
_TEMPORARY_NAME = re.compile(re.escape(TEMPORARY_PREFIX) + r"(.+)-(\d+)-[0-9a-f]{8}")
_SAFE_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` atomically and durably. Raises DiskFullError, or OSError for anything else."""
    temporary = temporary_name(path)
    with disk_full_named(path):
        try:
            _fill(temporary, (data,), sync=True)
            filesystem.current.rename(temporary, path)
        except BaseException:
            with suppress(OSError):
                filesystem.current.unlink(temporary)
            raise
        fsync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 text, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by indented JSON; NaN and infinities become the strings "NaN", "Infinity", "-Infinity"."""
    write_text(path, json.dumps(json_safe(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_new(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a new file piece by piece, not synced: for directories that `commit_directory` syncs. Raises OSError."""
    with disk_full_named(path):
        _fill(path, chunks, sync=False)


def overwrite(path: Path, data: bytes) -> None:
    """Write over the first bytes of a file that is there: works on a full disk, but is neither atomic nor durable."""
    descriptor = filesystem.current.open_existing(path)
    try:
        filesystem.current.write(descriptor, data)
    finally:
        filesystem.current.close(descriptor)


def append_lines(path: Path, lines: Iterable[str], *, sync: bool = False) -> None:
    """Append whole lines in one write; after an error none of them is there. Raises DiskFullError, OSError."""
    data = "".join(f"{line}\n" for line in lines).encode()
    with disk_full_named(path):
        descriptor = filesystem.current.open_append(path)
        try:
            before = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, data)
                if sync:
                    filesystem.current.sync(descriptor)
            except OSError:
                with suppress(OSError):  # a device, such as /dev/full, cannot be cut
                    filesystem.current.truncate(path, before)
                raise
        finally:
            filesystem.current.close(descriptor)


def trim_torn_line(path: Path) -> int:
    """Cut what follows the last newline: the half line that a crash left. Returns how many bytes that was."""
    torn = torn_bytes(path)
    if torn:
        filesystem.current.truncate(path, path.stat().st_size - torn)
    return torn


def torn_bytes(path: Path) -> int:
    """Bytes after the last newline of a file, found from its end; 0 where there is no file."""
    if not path.is_file():
        return 0
    size = end = path.stat().st_size
    with path.open("rb") as file:
        while end:
            start = max(0, end - (1 << 16))
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return size - (start + newline + 1)
            end = start
    return size


def read_json(path: Path, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Parse a JSON file. Raises DataError naming the file when it is missing, no plain file, too large or not JSON."""
    try:
        value = json.loads(read_limited(path, max_bytes))
    except FileNotFoundError as error:
        raise DataError(f"missing file: {path}") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if _is_deeper(value, MAX_JSON_DEPTH):
        raise DataError(f"{path} is nested more than {MAX_JSON_DEPTH} deep")
    return value


def read_limited(path: Path, max_bytes: int) -> bytes:
    """Content of a plain file; a pipe is not waited for. Raises DataError for another kind or size, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{path} is no plain file")
        if found.st_size > max_bytes:
            raise DataError(f"{path} is {found.st_size} bytes, more than the {max_bytes} that such a file may have")
        return file.read()


def json_safe(value: Any) -> Any:
    """The same value with non-finite floats spelled out, since JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return value


def is_safe_name(name: str) -> bool:
    """Whether a name from a file may be opened inside its directory: plain characters, no way out."""
    return _SAFE_NAME.fullmatch(name) is not None and name not in (".", "..")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_tree(path: Path) -> None:
    """Remove a file, or a directory with all that is in it; links are removed, not followed."""
    if path.is_symlink() or not path.is_dir():
        with suppress(FileNotFoundError):
            filesystem.current.unlink(path)
        return
    for entry in path.iterdir():
        remove_tree(entry)
    filesystem.current.rmdir(path)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, each durable in the one that holds it. Raises OSError."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with suppress(FileExistsError):
        filesystem.current.mkdir(path)
    fsync_directory(path.parent)


def fsync_directory(path: Path) -> None:
    """Make the renames inside a directory durable."""
    filesystem.current.sync_directory(path)


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


def _fill(path: Path, chunks: Iterable[bytes | memoryview], *, sync: bool) -> None:
    descriptor = filesystem.current.create(path)
    try:
        for chunk in chunks:
            _write_all(descriptor, chunk)
        if sync:
            filesystem.current.sync(descriptor)
    finally:
        filesystem.current.close(descriptor)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    rest = memoryview(data).cast("B") if len(data) else memoryview(b"")
    while rest:
        rest = rest[filesystem.current.write(descriptor, rest) :]


def temporary_name(path: Path) -> Path:
    """A name beside `path` that only an unfinished write has."""
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.getpid()}-{secrets.token_hex(4)}")


def final_name(name: str) -> str:
    """The name that a temporary one is to take; any other name as it is."""
    path = Path(name)
    found = _TEMPORARY_NAME.fullmatch(path.name)
    return str(path.with_name(found[1])) if found else name


def writer_of(path: Path) -> int | None:
    """Pid of the process that a temporary name was made by, not necessarily one that lives; None for other names."""
    match = _TEMPORARY_NAME.fullmatch(path.name)
    return int(match[2]) if match else None


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects are nested more than `depth` deep."""
    level = [value]
    for _ in range(depth + 1):
        parents = [item for item in level if isinstance(item, dict | list)]
        level = [item for parent in parents for item in (parent.values() if isinstance(parent, dict) else parent)]
    return any(isinstance(item, dict | list) for item in level)
