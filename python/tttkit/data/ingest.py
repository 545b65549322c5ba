"""Hands the sources of a preparation to Rust, which reads, cuts, encodes and packs them; records each whole shard."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from tttkit._rust import Ingest
from tttkit.data.claim import Claim
from tttkit.data.job import Job, Prepared
from tttkit.data.manifest import ShardEntry, SplitEntry
from tttkit.data.sources import Documents, Pieces, file_documents, iter_inputs
from tttkit.data.tokenizer import LoadedTokenizer
from tttkit.errors import DataError, UsageError

BATCH_BYTES = 8 << 20
"""Text from Python that is collected before it is handed over."""
BATCH_PATHS = 1024
RUN_BYTES = 16 << 20
"""Text between two reports of progress."""


class Ingestion:
    """Hands the sources to Rust in order, and records each shard that is whole."""

    def __init__(self, job: Job, loaded: LoadedTokenizer, claim: Claim) -> None:
        self._job, self._claim = job, claim
        self._names = ("train", "validation")[: 1 + (job.validation is not None or job.validation_fraction > 0)]
        self._ingest = Ingest(
            loaded.encoder,
            job.out,
            eos_id=loaded.eos_id,
            shard_tokens=job.shard_tokens,
            documents=job.reading.documents,
            validation_fraction=0.0 if job.validation is not None else job.validation_fraction,
            kept=[claim.kept("train"), claim.kept("validation")],
            num_threads=job.num_threads,
        )
        kept = [shard for shards in self._ingest.finished() for shard in shards]
        self._kept_tokens = sum(shard[1] for shard in kept)
        claim.keep_only({shard[0] for shard in kept})

    def splits(self) -> dict[str, SplitEntry]:
        """Read and write everything. Raises UsageError for a source, DataError for unusable text, DiskFullError."""
        self._feed(self._job.sources, "train")
        self._ingest.hold_out_all()
        self._feed(self._job.validation or [], "validation")
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

    def _feed(self, sources: list[str], split: str) -> None:
        inputs = iter_inputs(sources, self._job.reading, self._job.decoder, split=split)
        for kind, group in itertools.groupby(inputs, key=type):
            if kind is Documents:
                texts = (item.texts for item in cast("Iterator[Documents]", group))
                for batch in _batches(itertools.chain.from_iterable(texts)):
                    self._ingest.add_documents(batch)
                    batch.clear()  # Rust has them
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
        """Rust says which file is not UTF-8; reading it again raises with line, byte and hint."""
        name = str(error).removesuffix(": invalid UTF-8")
        if name != str(error):
            for _ in file_documents(Path(name), self._job.reading, self._job.decoder):
                pass

    def report(self, num_tokens: int | None = None) -> None:
        """Record what is whole, and say how far it is; the number of tokens is given at the end."""
        for shards in self._ingest.finished():
            for name, _, _, _, digest in shards:
                self._claim.record(name, digest)
        if self._job.progress:
            counts = self._ingest.counts()
            num_documents, num_new, num_bytes, _ = map(sum, zip(*counts, strict=True))
            # what a kept shard holds of a document that goes on after it is counted twice until the end
            prepared = Prepared(
                num_bytes=num_bytes,
                total_bytes=self._job.survey.total_bytes if num_tokens is None else num_bytes,
                num_documents=num_documents,
                num_tokens=self._kept_tokens + num_new if num_tokens is None else num_tokens,
            )
            self._job.progress(prepared)


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    """Lists of about BATCH_BYTES; nothing else holds a text, which may be a large part of memory."""
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
