"""Atomic and durable writes of files: a temporary name in the same directory, fsync, rename, fsync of the directory.

A reader sees the old file or the new one, never part of one. Leftovers of a crash start with `.tmp-`; the holder of the
lock of a run removes them. `commits` writes whole directories, and `filesystem` makes the system calls.
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
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from tttkit.errors import DataError, DiskFullError
from tttkit.storage import filesystem

TEMPORARY_PREFIX = ".tmp-"
MAX_JSON_BYTES = 256 << 20
MAX_JSON_DEPTH = 32
_TEMPORARY_NAME = re.compile(re.escape(TEMPORARY_PREFIX) + r"(.+)-(\d+)-[0-9a-f]{8}")
_SAFE_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_FULL = {
    errno.ENOSPC: "free disk space, then run the command again",
    errno.EDQUOT: "the disk quota is used up: free space or raise the quota, then run the command again",
    errno.EFBIG: "the file reached the size limit (see `ulimit -f`): raise the limit, then run the command again",
}
"""Errors of the operating system that mean a full disk, and what to do about each."""


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` atomically and durably. Raises DiskFullError, or OSError for any other reason."""
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
    """Replace `path` with UTF-8 text, like `write_bytes`. Bytes of a file name that are not UTF-8 are escaped."""
    write_bytes(path, _utf8(text))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` with indented JSON, like `write_bytes`. Non-finite floats are spelled as in `json_safe`."""
    write_text(path, json.dumps(json_safe(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_new(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Write a new file chunk by chunk, without a sync, into a directory that `commit_directory` will sync.

    Raises DiskFullError, OSError.
    """
    with disk_full_named(path):
        _fill(path, chunks, sync=False)


@contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """Yield a name of an existing file for libraries that take only UTF-8: its path, or that of its open descriptor.

    Raises OSError if the file cannot be opened.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        yield str(path)


def overwrite(path: Path, data: bytes) -> None:
    """Overwrite the first bytes of an existing file: works on a full disk, but is neither atomic nor durable.

    Raises DiskFullError, OSError.
    """
    with disk_full_named(path):
        descriptor = filesystem.current.open_existing(path)
        try:
            filesystem.current.write(descriptor, data)
        finally:
            filesystem.current.close(descriptor)


def temporary_copy(source: IO[bytes]) -> IO[bytes]:
    """Copy an open file into a temporary file without a name, and return it. It vanishes when it is closed.

    Raises DiskFullError naming the directory for temporary files, which TMPDIR chooses.
    """
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller keeps it open
    with disk_full_named(Path(tempfile.gettempdir())):
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
    return cast("IO[bytes]", copy)


def append_lines(path: Path, lines: Iterable[str], *, sync: bool = False) -> None:
    """Append complete lines in one write, or none of them after an error. Raises DiskFullError, OSError."""
    append_bytes(path, _utf8("".join(f"{line}\n" for line in lines)), sync=sync)


def append_bytes(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Append `data` in one write, or nothing after an error. Raises DiskFullError, OSError."""
    with disk_full_named(path):
        descriptor = filesystem.current.open_append(path)
        try:
            before = os.fstat(descriptor).st_size
            try:
                _write_all(descriptor, data)
                if sync:
                    filesystem.current.sync(descriptor)
            except OSError:
                with suppress(OSError):  # a device such as /dev/full cannot be truncated
                    filesystem.current.truncate(path, before)
                raise
        finally:
            filesystem.current.close(descriptor)


def _utf8(text: str) -> bytes:
    """Encode text. Halves of surrogate pairs, which stand for odd bytes of a file name, become escapes such as \\udce9.

    Such an escape is JSON too, so a name that is read back from JSON still opens its file.
    """
    return text.encode(errors="backslashreplace")


def trim_torn_line(path: Path) -> int:
    """Remove the incomplete line that a crash left at the end of a file. Returns its length in bytes."""
    torn = torn_bytes(path)
    if torn:
        filesystem.current.truncate(path, path.stat().st_size - torn)
    return torn


def torn_bytes(path: Path) -> int:
    """Return the number of bytes after the last newline of a file; 0 when there is no file."""
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
    """Parse a JSON file.

    Raises DataError naming the file when it is missing, not a plain file, too large, or not JSON.
    """
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
    """Return the content of a plain file, without waiting for a pipe.

    Raises DataError for another kind of file or more than `max_bytes`, OSError when it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is not a plain file")
        if status.st_size > max_bytes:
            raise DataError(f"{path} is {status.st_size} bytes, more than the {max_bytes} allowed")
        return file.read()


def json_safe(value: Any) -> Any:
    """Return the value with non-finite floats as the strings "NaN", "Infinity", and "-Infinity"; JSON has none."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    return value


def is_safe_name(name: str) -> bool:
    """Return whether a name that was read from a file is safe to open: plain characters that stay in the directory."""
    return _SAFE_NAME.fullmatch(name) is not None and name not in (".", "..")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_tree(path: Path) -> None:
    """Remove a file, or a directory with everything in it. Links are removed, not followed."""
    if path.is_symlink() or not path.is_dir():
        with suppress(FileNotFoundError):
            filesystem.current.unlink(path)
        return
    for entry in path.iterdir():
        remove_tree(entry)
    filesystem.current.rmdir(path)


def make_directory(path: Path) -> None:
    """Make a directory and its parents, each durable in its parent. Raises DiskFullError, OSError."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with disk_full_named(path):
        with suppress(FileExistsError):
            filesystem.current.mkdir(path)
        fsync_directory(path.parent)


def fsync_directory(path: Path) -> None:
    """Make the renames inside a directory durable."""
    filesystem.current.sync_directory(path)


@contextmanager
def disk_full_named(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about a full disk into a DiskFullError.

    The error names the final path of the file that was being written, not its temporary name, and says what to do.
    """
    try:
        yield
    except OSError as error:
        hint = _FULL.get(error.errno or 0)
        if hint is None or isinstance(error, DiskFullError):
            raise
        raise DiskFullError(f"disk full while writing {final_name(str(path))}", hint=hint) from error


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
    """Return a new name for an unfinished write, in the directory of `path`."""
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.getpid()}-{secrets.token_hex(4)}")


def final_name(name: str) -> str:
    """Return a path in which final names replace all temporary names of files and directories."""
    parts = Path(name).parts
    matches = [_TEMPORARY_NAME.fullmatch(part) for part in parts]
    if not any(matches):
        return name
    return str(Path(*(match[1] if match else part for match, part in zip(matches, parts, strict=True))))


def writer_of(path: Path) -> int | None:
    """Return the pid of the process that made a temporary name, alive or not; None for any other name."""
    match = _TEMPORARY_NAME.fullmatch(path.name)
    return int(match[2]) if match else None


def _is_deeper(value: Any, depth: int) -> bool:
    """Return whether lists and objects are nested more than `depth` deep."""
    level = [value]
    for _ in range(depth + 1):
        parents = [item for item in level if isinstance(item, dict | list)]
        level = [item for parent in parents for item in (parent.values() if isinstance(parent, dict) else parent)]
    return any(isinstance(item, dict | list) for item in level)
