"""Hand the sources of a preparation to Rust, and record each finished shard.

Rust reads, cuts, encodes and packs text. Python reads every other kind of source and passes its documents to Rust.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from tttkit._rust import Ingest
from tttkit.data.job import Job, Prepared
from tttkit.data.manifest import ShardEntry, SplitEntry
from tttkit.data.output import OutputDirectory
from tttkit.data.reading import file_item, item_documents
from tttkit.data.sources import Documents, Input, Pieces, Source
from tttkit.data.tokenizer import LoadedTokenizer
from tttkit.errors import DataError, UsageError

BATCH_BYTES = 8 << 20
"""Approximate bytes of text that one call passes to Rust."""
BATCH_PATHS = 1024
"""Paths that one call passes to Rust."""
RUN_BYTES = 16 << 20
"""Bytes of text between two reports of progress."""


class Ingestion:
    """Runs the Rust ingestion over the sources of a job, in order."""

    def __init__(self, job: Job, loaded: LoadedTokenizer, output: OutputDirectory) -> None:
        self._job, self._output = job, output
        self._sources, self._validation = job.split_sources
        self._names = ("train", "validation")[: 1 + (self._validation is not None or job.validation_fraction > 0)]
        self._ingest = Ingest(
            loaded.encoder,
            job.out,
            eos_id=loaded.eos_id,
            shard_tokens=job.shard_tokens,
            documents=job.reader.rules.documents,
            validation_fraction=0.0 if self._validation is not None else job.validation_fraction,
            kept=[output.finished_shards("train"), output.finished_shards("validation")],
            num_threads=job.num_threads,
        )
        kept = [shard for shards in self._ingest.finished() for shard in shards]
        self._kept_tokens = sum(shard[1] for shard in kept)
        output.keep_only({shard[0] for shard in kept})

    def splits(self) -> dict[str, SplitEntry]:
        """Read and write everything. Raises UsageError for a bad source, DataError for unusable text, DiskFullError."""
        self._feed(self._sources, "train")
        self._ingest.hold_out_all()
        self._feed(self._validation or [], "validation")
        finished = self._ingest.finish()
        return {
            name: SplitEntry(
                shards=[
                    ShardEntry(name=file, num_tokens=tokens, num_documents=documents, max_token=largest, sha256=sha256)
                    for file, tokens, documents, largest, sha256 in shards
                ],
                num_tokens=sum(shard[1] for shard in shards),
                num_documents=sum(shard[2] for shard in shards),
                num_bytes=num_bytes,
                num_words=num_words,
            )
            for name, shards, (_, _, num_bytes, num_words) in zip(
                self._names, finished, self._ingest.counts(), strict=False
            )
        }

    def _feed(self, sources: Iterable[Source], split: str) -> None:
        for kind, group in itertools.groupby(self._inputs(sources, split), key=type):
            if kind is Documents:
                texts = (item.texts for item in cast("Iterator[Documents]", group))
                for batch in _batches(itertools.chain.from_iterable(texts)):
                    self._ingest.add_documents(batch)
                    batch.clear()  # Rust has its own copies
                    self._work()
            elif kind is Pieces:
                for item in cast("Iterator[Pieces]", group):
                    for batch in _batches(item.texts):
                        self._ingest.add_text(batch)
                        self._work()
                    self._ingest.end_text()
            else:
                while paths := list(itertools.islice(cast("Iterator[Path]", group), BATCH_PATHS)):
                    self._ingest.add_paths(paths)
                    self._work()

    def _inputs(self, sources: Iterable[Source], split: str) -> Iterator[Input]:
        for source in sources:
            yield from source.inputs(self._job.reader, split)

    def _work(self) -> None:
        try:
            while self._ingest.run(RUN_BYTES):
                self.report()
        except DataError as error:
            self._explain(error)
            raise
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            if error.filename is None or Path(error.filename).parent == self._job.out:
                raise
            raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error
        self.report()

    def _explain(self, error: DataError) -> None:
        """Raise a better error for invalid UTF-8: Rust names only the file, but Python also names line and byte."""
        name = str(error).removesuffix(": invalid UTF-8")
        if name != str(error):
            for _ in item_documents([file_item(Path(name), self._job.reader.rules)], self._job.reader):
                pass

    def report(self, num_tokens: int | None = None) -> None:
        """Record the finished shards and report progress. `num_tokens` is the final count, given at the end."""
        for shards in self._ingest.finished():
            for name, _, _, _, digest in shards:
                self._output.record(name, digest)
        if self._job.progress:
            counts = self._ingest.counts()
            num_documents, num_new, num_bytes, _ = map(sum, zip(*counts, strict=True))
            # If a document continues after a kept shard, its tokens in that shard count twice until the end.
            prepared = Prepared(
                num_bytes=num_bytes,
                total_bytes=self._job.survey.total_bytes if num_tokens is None else num_bytes,
                num_documents=num_documents,
                num_tokens=self._kept_tokens + num_new if num_tokens is None else num_tokens,
            )
            self._job.progress(prepared)


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    """Yield lists of about BATCH_BYTES. No reference to a text is kept: one text may take a large part of memory."""
    batch: list[str] = []
    num_bytes = 0
    for text in texts:
        batch.append(text)
        num_bytes += len(text)
        del text
        if num_bytes >= BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch
