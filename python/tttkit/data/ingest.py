"""Turn the sources of a preparation into shards: on this machine in Rust, or elsewhere by another engine."""

from __future__ import annotations

import abc
from collections.abc import Iterable

from tttkit._rust import Ingest
from tttkit.data.feeding import Feeding
from tttkit.data.job import Job, Prepared
from tttkit.data.manifest import ShardEntry, SplitEntry
from tttkit.data.output import OutputDirectory
from tttkit.data.tokenizer import LoadedTokenizer

Row = tuple[str, int, int, int, str]
"""Name, tokens, documents, largest id and SHA-256 of a shard, as Rust returns them."""


class Engine(abc.ABC):
    """Where text is encoded. Every engine writes the same bytes."""

    @abc.abstractmethod
    def check(self, job: Job) -> None:
        """Refuse a job that this engine cannot do, before anything is written. Raises UsageError."""

    @abc.abstractmethod
    def splits(self, job: Job, loaded: LoadedTokenizer, output: OutputDirectory) -> dict[str, SplitEntry]:
        """Read the sources, write all shards to the locked directory, and return its splits.

        Raises UsageError for a bad source, DataError for unusable text, DiskFullError.
        """


class ThisMachine(Engine):
    """Encodes all text in this process, on its own threads."""

    def check(self, job: Job) -> None:
        """Do nothing: this machine prepares every job."""

    def splits(self, job: Job, loaded: LoadedTokenizer, output: OutputDirectory) -> dict[str, SplitEntry]:
        """Write all shards; see `Engine`. Each finished shard is recorded, so that a later call can resume."""
        return Ingestion(job, loaded, output).splits()


class Ingestion:
    """Runs the Rust ingestion over the sources of a job, in order."""

    def __init__(self, job: Job, loaded: LoadedTokenizer, output: OutputDirectory) -> None:
        self._job, self._output = job, output
        self._sources, self._validation = job.split_sources
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
        feeding = Feeding(self._job.reader, self._ingest, self._job.out, self._report)
        feeding.feed(self._sources, "train")
        self._ingest.hold_out_all()
        feeding.feed(self._validation or [], "validation")
        finished = self._ingest.finish()
        splits = {
            name: split_entry(shards, num_bytes, num_words)
            for name, shards, (_, _, num_bytes, num_words) in zip(
                self._job.split_names, finished, self._ingest.counts(), strict=False
            )
        }
        self._report(sum(split.num_tokens for split in splits.values()))
        return splits

    def _report(self, num_tokens: int | None = None) -> None:
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


def split_entry(shards: Iterable[Row], num_bytes: int, num_words: int) -> SplitEntry:
    """Return the entry of a split with these shards in order, and with bytes and words of its text."""
    entries = [
        ShardEntry(name=file, num_tokens=tokens, num_documents=documents, max_token=largest, sha256=sha256)
        for file, tokens, documents, largest, sha256 in shards
    ]
    return SplitEntry(
        shards=entries,
        num_tokens=sum(shard.num_tokens for shard in entries),
        num_documents=sum(shard.num_documents for shard in entries),
        num_bytes=num_bytes,
        num_words=num_words,
    )
