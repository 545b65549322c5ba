"""Turn the sources of a preparation into shards in Rust, and record each finished shard."""

from __future__ import annotations

from tttkit._rust import Ingest
from tttkit.data.feeding import Feeding
from tttkit.data.job import Job, Prepared
from tttkit.data.manifest import ShardEntry, SplitEntry
from tttkit.data.output import OutputDirectory
from tttkit.data.tokenizer import LoadedTokenizer


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
        feeding = Feeding(self._job, self._ingest, self.report)
        feeding.feed(self._sources, "train")
        self._ingest.hold_out_all()
        feeding.feed(self._validation or [], "validation")
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
