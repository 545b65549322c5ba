"""Hand the inputs of sources to Rust, which reads, cuts and uses their text.

Rust reads text files itself. Python reads every other kind of source and passes its documents to Rust.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar, cast

from tttkit._rust import Ingest, Training
from tttkit.data.inputs import CutPieces, Documents, Input, Pieces
from tttkit.data.job import Job
from tttkit.data.reader import Reader
from tttkit.data.reading import file_item, item_documents
from tttkit.data.sources import Source
from tttkit.errors import DataError, UsageError

BATCH_BYTES = 8 << 20
"""Approximate bytes of text that one call passes to Rust."""
BATCH_PATHS = 1024
"""Paths that one call passes to Rust."""
RUN_BYTES = 16 << 20
"""Bytes of text between two reports of progress."""
Text = TypeVar("Text", str, str | None)


class Feeding:
    """Feeds one engine of Rust with sources, in order."""

    def __init__(self, reader: Reader, engine: Ingest | Training, out: Path, report: Callable[[], None]) -> None:
        """Call `report` about every RUN_BYTES of text. The engine writes to the directory `out`."""
        self._reader, self._engine, self._out, self._report = reader, engine, out, report

    def feed(self, sources: Iterable[Source], split: str) -> None:
        """Read the sources. Raises UsageError for a bad source, DataError for unusable text, DiskFullError."""
        for kind, group in itertools.groupby(self._inputs(sources, split), key=type):
            if kind is Documents:
                texts = (item.texts for item in cast("Iterator[Documents]", group))
                for batch in _batches(itertools.chain.from_iterable(texts)):
                    self._engine.add_documents(batch)
                    batch.clear()  # Rust has its own copies
                    self._work()
            elif kind is CutPieces:
                pieces = (item.pieces for item in cast("Iterator[CutPieces]", group))
                for cut in _batches(itertools.chain.from_iterable(pieces)):
                    self._engine.add_pieces(cut)
                    self._work()
            elif kind is Pieces:
                for item in cast("Iterator[Pieces]", group):
                    for batch in _batches(item.texts):
                        self._engine.add_text(batch)
                        self._work()
                    self._engine.end_text()
            else:
                while paths := list(itertools.islice(cast("Iterator[Path]", group), BATCH_PATHS)):
                    self._engine.add_paths(paths)
                    self._work()

    def _inputs(self, sources: Iterable[Source], split: str) -> Iterator[Input]:
        for source in sources:
            yield from source.inputs(self._reader, split)

    def _work(self) -> None:
        try:
            while self._engine.run(RUN_BYTES):
                self._report()
        except DataError as error:
            self._explain(error)
            raise
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            if error.filename is None or Path(error.filename).parent == self._out:
                raise
            raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error
        self._report()

    def _explain(self, error: DataError) -> None:
        """Raise a better error for invalid UTF-8: Rust names only the file, but Python also names line and byte."""
        name = str(error).removesuffix(": invalid UTF-8")
        if name != str(error):
            for _ in item_documents([file_item(Path(name), self._reader.rules)], self._reader):
                pass


def count_words(job: Job, expressions: list[str]) -> Training:
    """Count the words of the train split of a job, to train a tokenizer. Sources of validation are not read."""
    sources, validation = job.split_sources
    training = Training(
        expressions,
        documents=job.reader.rules.documents,
        validation_fraction=0.0 if validation is not None else job.validation_fraction,
        num_threads=job.num_threads,
    )
    Feeding(job.reader, training, job.out, lambda: None).feed(sources, "train")
    return training


def _batches(texts: Iterator[Text]) -> Iterator[list[Text]]:
    """Yield lists of about BATCH_BYTES. No reference to a text is kept: one text may take a large part of memory."""
    batch: list[Text] = []
    num_bytes = 0
    for text in texts:
        batch.append(text)
        num_bytes += len(text or "")
        del text
        if num_bytes >= BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch
