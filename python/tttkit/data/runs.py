"""Cut the files of sources into runs: files that follow each other and are read without those before and after."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from tttkit.data.formats import TEXT
from tttkit.data.reader import Reader, Reading
from tttkit.data.reading import Item, file_item
from tttkit.data.sources import Files, ItemSource, StandardLibrary

RUN_BYTES = 128 << 20
"""Bytes of files from which on a run ends. A file is never cut."""


@dataclasses.dataclass(frozen=True)
class SomeFiles(ItemSource):
    """Some of the files of a source."""

    paths: tuple[str, ...]
    is_text: bool
    """Whether the files are plain text whatever the format of other sources, as modules of Python are."""

    def check(self, reader: Reader) -> None:
        """Do nothing: the source of the files was checked."""

    def items(self, rules: Reading) -> Iterator[Item]:
        """Return the files as items."""
        rules = dataclasses.replace(rules, format=TEXT) if self.is_text else rules
        return (file_item(Path(path), rules) for path in self.paths)


Run = tuple[SomeFiles, ...]
"""Files that one task reads, by source."""


def cut_runs(sources: Sequence[Files], rules: Reading) -> list[Run]:
    """Return all files of sources in order, as runs of about RUN_BYTES. Raises UsageError for a missing source."""
    runs: list[Run] = []
    run: list[SomeFiles] = []
    size = 0
    for source in sources:
        paths: list[str] = []
        is_text, was_joined = isinstance(source, StandardLibrary), False
        for path in source.files(rules):
            is_joined = not is_text and _is_joined(path, rules)
            if size >= RUN_BYTES and not (is_joined and was_joined):
                runs.append((*run, *_some(source, paths)))
                run, paths, size = [], [], 0
            paths.append(str(path))
            size += path.stat().st_size
            was_joined = is_joined
        run.extend(_some(source, paths))
    return [*runs, tuple(run)] if run else runs


def _some(source: Files, paths: list[str]) -> list[SomeFiles]:
    return [SomeFiles(source.text, tuple(paths), isinstance(source, StandardLibrary))] if paths else []


def _is_joined(path: Path, rules: Reading) -> bool:
    """Whether a file of records may hold only a part of a document, because one list is cut into documents."""
    joins = rules.document_pattern is not None or rules.documents == "wikitext"
    return joins and file_item(path, rules).content != TEXT
