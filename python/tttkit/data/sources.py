"""SOURCE to documents: text files, directories, globs, stdin, jsonl, parquet, Hugging Face data sets, `stdlib`.

In come the words of the command line; out come documents in a fixed order: sources as given, paths within one sorted
bytewise. Text is read as it is needed; only the documents of one batch are in memory.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import itertools
import os
import sys
import sysconfig
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from tttkit.data.documents import RULES, compile_pattern, cut_lines
from tttkit.data.records import data_set_texts, jsonl_texts, parquet_texts
from tttkit.data.text import Decoder, damage_named, open_binary, read_file, read_lines, read_pieces
from tttkit.errors import UsageError

TEXT_SUFFIXES = (".txt", ".text", ".md", ".raw", ".tokens")
RECORD_SUFFIXES = (".jsonl", ".parquet")
COMPRESSIONS = (".gz", ".xz", ".zst")
_NOT_STDLIB = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How documents are taken from sources."""

    documents: str = "file"
    """Rule that cuts text into documents: file, line, blank-line or wikitext."""
    document_pattern: str | None = None
    """A document starts at each line this regular expression matches; overrides the rule."""
    text_field: str = "text"
    """Field of jsonl, parquet and data set records that holds the text."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later."""
        if self.documents not in RULES:
            raise UsageError(f"unknown document rule `{self.documents}`", hint=f"rules: {', '.join(RULES)}")
        if self.document_pattern is not None:
            compile_pattern(self.document_pattern)


def iter_documents(
    sources: Iterable[str], reading: Reading, decoder: Decoder, *, split: str = "train"
) -> Iterator[str]:
    """Documents of all sources in order. `split` is the one taken from a Hugging Face data set.

    Raises UsageError for a source that is missing or unreadable, DataError for unusable text.
    """
    for source in sources:
        if source == "-":
            yield from _cut_file(sys.stdin.buffer, "stdin", reading, decoder)
        elif source.startswith("hf:"):
            yield from _data_set_documents(source, reading, split)
        else:
            for path in expand(source):
                yield from file_documents(path, reading, decoder)


@dataclasses.dataclass(frozen=True)
class Documents:
    """Documents that are whole in memory one by one."""

    texts: Iterator[str]


@dataclasses.dataclass(frozen=True)
class Pieces:
    """A text in pieces, to be cut as a file is: of any length, and never in memory as a whole."""

    texts: Iterator[str]


def iter_inputs(
    sources: Iterable[str], reading: Reading, decoder: Decoder, *, split: str = "train"
) -> Iterator[Path | Pieces | Documents]:
    """As `iter_documents`, but text that Rust can cut by itself comes as a path, or in pieces."""
    rust_cuts = reading.document_pattern is None and decoder.bad_utf8 == "strict"
    for source in sources:
        if source == "-" and rust_cuts:
            yield Pieces(read_pieces(sys.stdin.buffer, "stdin"))
        elif source == "-" or source.startswith("hf:"):
            yield Documents(iter_documents([source], reading, decoder, split=split))
        else:
            for path in expand(source):
                if not rust_cuts or inner_suffix(path) in RECORD_SUFFIXES:
                    yield Documents(file_documents(path, reading, decoder))
                elif path.suffix.lower() in COMPRESSIONS:
                    yield Pieces(_unpacked(path))
                else:
                    yield path


def _unpacked(path: Path) -> Iterator[str]:
    with open_binary(path) as file, damage_named(path):
        yield from read_pieces(file, str(path))


def expand(source: str) -> Iterator[Path]:
    """Files of one source, sorted bytewise by path. Raises UsageError when there are none.

    Of a directory tree no more than the names in one directory and in those above it are in memory.
    """
    if source == "stdlib":
        return _standard_library()
    path = Path(source)
    if path.is_dir():
        return _directory(path)
    if path.exists():
        return iter([path])
    if not glob.has_magic(source):
        raise UsageError(f"no such source: {source}", hint="a file, directory, glob, -, hf:NAME[:CONFIG] or stdlib")
    found = sorted(filter(os.path.isfile, glob.iglob(source, recursive=True)), key=os.fsencode)  # noqa: PTH207
    if not found:
        raise UsageError(f"no file matches {source}")
    return map(Path, found)


def _directory(root: Path) -> Iterator[Path]:
    suffixes = TEXT_SUFFIXES + RECORD_SUFFIXES
    is_empty = True
    for path in walk(root, lambda name: inner_suffix(Path(name)) in suffixes):
        is_empty = False
        yield path
    if is_empty:
        raise UsageError(
            f"no text in directory {root}", hint=f"it is searched for {', '.join(suffixes)} (also .gz, .xz, .zst)"
        )


def walk(root: Path, is_wanted: Callable[[str], bool], skipped: Container[str] = ()) -> Iterator[Path]:
    """Files below `root` whose names are wanted, sorted bytewise by path, links to directories not followed.

    A directory sorts by its name with a slash, as it stands in the paths of what it holds: `a-b` comes before `a/c`.
    Directories whose names are in `skipped` are left out. Raises UsageError for one that cannot be read.
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
    """What is wanted in a directory, the last by path first, directories with a slash."""
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
        raise UsageError(f"cannot read {folder}: {error.strerror}") from error
    names.sort(reverse=True)
    return names


def inner_suffix(path: Path) -> str:
    """Suffix of what is in the file, its compression left out: `.jsonl` of `a.jsonl.zst`."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in COMPRESSIONS else path.suffix.lower()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survey:
    """What is known of sources before they are read."""

    signature: str | None
    """Digest of names, sizes and times of all files; None with stdin, which cannot be read twice."""
    total_bytes: int | None
    """Bytes of text, or None where only reading tells."""


def survey(sources: Iterable[str]) -> Survey:
    """Look at every file of the sources once, without reading it. Raises UsageError for a source that is missing."""
    digest, total = hashlib.sha256(), 0
    is_known, is_repeatable = True, True
    for source in sources:
        digest.update(f"{source}\0".encode(errors="surrogateescape"))
        if source == "-" or source.startswith("hf:"):
            is_known, is_repeatable = False, is_repeatable and source != "-"
            continue
        for path in expand(source):
            status = path.stat()
            digest.update(os.fsencode(path) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
            total += status.st_size
            is_known = is_known and path.suffix.lower() not in (*COMPRESSIONS, ".parquet")
    return Survey(signature=digest.hexdigest() if is_repeatable else None, total_bytes=total if is_known else None)


def _standard_library() -> Iterator[Path]:
    """Every module of this interpreter's library, its tests left out."""
    root = Path(sysconfig.get_path("stdlib"))
    found = walk(root, lambda name: name.endswith(".py"), skipped=_NOT_STDLIB)
    first = next(found, None)
    if first is None:
        raise UsageError(f"the source of the Python library is not in {root}", hint="name a text file or directory")
    return itertools.chain([first], found)


def file_documents(path: Path, reading: Reading, decoder: Decoder) -> Iterator[str]:
    """Documents of one file, by its suffix. Raises UsageError, DataError."""
    suffix = inner_suffix(path)
    if suffix == ".parquet":
        with open_binary(path) as file, damage_named(path):
            yield from parquet_texts(file, str(path), reading.text_field)
    elif suffix == ".jsonl":
        with open_binary(path) as file, damage_named(path):
            lines = read_lines(file, str(path), decoder)
            yield from jsonl_texts(lines, str(path), reading.text_field, decoder)
    elif reading.documents == "file" and reading.document_pattern is None:
        text = read_file(path, decoder)
        if text:
            yield text
    else:
        with open_binary(path) as file, damage_named(path):
            yield from _cut_file(file, str(path), reading, decoder)


def _cut_file(file: Any, name: str, reading: Reading, decoder: Decoder) -> Iterator[str]:
    lines = (line for _, line in read_lines(file, name, decoder))
    return (text for text in cut_lines(lines, reading.documents, reading.document_pattern) if text)


def _data_set_documents(source: str, reading: Reading, split: str) -> Iterator[str]:
    """Records of a data set; cut by the document rule when it is not `file`."""
    texts = data_set_texts(source, reading.text_field, split)
    if reading.documents == "file" and reading.document_pattern is None:
        return texts
    lines = (text if text.endswith("\n") else f"{text}\n" for text in texts)
    return cut_lines(lines, reading.documents, reading.document_pattern)
