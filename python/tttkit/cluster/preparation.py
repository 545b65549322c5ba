"""Prepare a data set on a Ray cluster, with the bytes of one machine.

Shards are cut at exact tokens, and the number of a document among all documents decides whether it is held out. So
tasks first count the documents of runs of files, if any are held out; then each encodes a run to a piece, and the
driver knows from the counts of all pieces which tokens each shard has, and tasks copy them. All machines must see
sources and output under the same paths.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from tttkit.cluster.pieces import Piece, Setup, count_documents, encode_run, write_shard
from tttkit.cluster.tasks import Cluster, connected
from tttkit.data.ingest import Engine, Row, split_entry
from tttkit.data.job import Job, Prepared
from tttkit.data.manifest import SplitEntry
from tttkit.data.output import OutputDirectory
from tttkit.data.runs import cut_runs
from tttkit.data.sources import Files
from tttkit.data.tokenizer import LoadedTokenizer
from tttkit.errors import UsageError
from tttkit.storage import commits, files


class ClusterEngine(Engine):
    """Encodes text in tasks of Ray."""

    def __init__(self, threads: int | None = None) -> None:
        """Run each task with `threads` threads, by default OMP_NUM_THREADS, else one."""
        self._threads = threads

    def check(self, job: Job) -> None:
        """Refuse sources that tasks cannot share. Raises UsageError."""
        for source in (*job.sources, *(job.validation or ())):
            if not isinstance(source, Files):
                raise UsageError(
                    f"--engine ray shares files among tasks, but {source.text} is a stream or a data set",
                    hint="name files, directories or globs, or leave out --engine ray",
                )
        if job.parts:
            raise UsageError(
                "--engine ray shares files among tasks, but the sources are one file that is one document",
                hint="leave out --engine ray",
            )

    def splits(self, job: Job, loaded: LoadedTokenizer, output: OutputDirectory) -> dict[str, SplitEntry]:
        """Write all shards; see `Engine`. Finished pieces stay in the directory for a later call."""
        files.make_directory(output.pieces)
        try:
            with connected(self._threads) as cluster:
                return _Preparation(cluster, job, loaded, output).splits()
        finally:
            # what lost or cancelled tasks had begun; a task that still runs elsewhere may be writing
            for directory in (output.pieces, job.out):
                with suppress(OSError):
                    commits.sweep_temporaries(directory)


class _Preparation:
    """One preparation on a cluster."""

    def __init__(self, cluster: Cluster, job: Job, loaded: LoadedTokenizer, output: OutputDirectory) -> None:
        self._cluster, self._job, self._pieces = cluster, job, output.pieces
        rules = job.reader.rules
        self._runs = cut_runs(cast("Sequence[Files]", job.sources), rules)
        self._held_out = cut_runs(cast("Sequence[Files]", job.validation or []), rules)
        self._setup = Setup(
            current=Path.cwd(),
            out=job.out.absolute(),
            pieces=output.pieces.absolute(),
            rules=rules,
            bad_utf8=job.reader.decoder.bad_utf8,
            split_special=job.tokenizer_options.special_in_text == "split",
            eos_id=loaded.eos_id,
            validation_fraction=0.0 if job.validation is not None else job.validation_fraction,
            threads=cluster.threads,
        )

    def splits(self) -> dict[str, SplitEntry]:
        """Make all pieces and shards, and return the splits."""
        pieces = self._encode(self._first_documents())
        for piece in pieces:
            self._job.reader.account.merge(piece.left_out)
            self._job.reader.decoder.num_repaired += piece.num_repaired
        rows = self._write(pieces)
        splits = {
            name: split_entry(
                rows[split],
                sum(piece.counts[split].num_bytes for piece in pieces),
                sum(piece.counts[split].num_words for piece in pieces),
            )
            for split, name in enumerate(self._job.split_names)
        }
        self._report(pieces, is_last=True)
        return splits

    def _first_documents(self) -> list[int]:
        """Return the number of documents before each run, or zeros if none is held out by its number."""
        if not self._setup.validation_fraction:
            return [0] * len(self._runs)
        digest = hashlib.sha256(repr(self._runs).encode(errors="surrogatepass")).hexdigest()
        saved = self._pieces / f"counts-{digest[:32]}.json"
        if not saved.exists():
            counts = [0] * len(self._runs)
            tasks = ((self._setup, number, run) for number, run in enumerate(self._runs))
            for number, count in self._cluster.run(count_documents, tasks):
                counts[number] = count
            files.write_json(saved, counts)
        return [0, *itertools.accumulate(files.read_json(saved))][: len(self._runs)]

    def _encode(self, first_documents: Sequence[int]) -> list[Piece]:
        """Make a piece of each run, and return them in the order of the runs."""
        train = zip(self._runs, first_documents, itertools.repeat("train"))
        held_out = zip(self._held_out, itertools.repeat(0), itertools.repeat("validation"))
        tasks = ((self._setup, number, *task) for number, task in enumerate(itertools.chain(train, held_out)))
        pieces: dict[int, Piece] = {}
        for number, piece in self._cluster.run(encode_run, tasks):
            pieces[number] = piece
            self._report(pieces.values())
        return [pieces[number] for number in sorted(pieces)]

    def _write(self, pieces: Sequence[Piece]) -> list[list[Row]]:
        """Write the shards of both splits, and return their rows in order."""
        rows: dict[tuple[int, int], Row] = {}
        tasks = (task for split in range(len(self._job.split_names)) for task in self._shards(pieces, split))
        for split, number, row in self._cluster.run(write_shard, tasks):
            rows[split, number] = row
        return [[rows[key] for key in sorted(rows) if key[0] == split] for split in (0, 1)]

    def _shards(self, pieces: Sequence[Piece], split: int) -> Iterator[tuple[Setup, int, int, list[Path], int, int]]:
        """Yield the tasks that write the shards of a split, each with the pieces that hold its tokens."""
        used = [piece for piece in pieces if piece.counts[split].num_tokens]
        starts = [0, *itertools.accumulate(piece.counts[split].num_tokens for piece in used)]
        for number, start in enumerate(range(0, starts[-1], self._job.shard_tokens)):
            stop = min(start + self._job.shard_tokens, starts[-1])
            first, last = bisect.bisect_right(starts, start) - 1, bisect.bisect_left(starts, stop)
            paths = [self._setup.pieces / piece.shard(split) for piece in used[first:last]]
            yield self._setup, split, number, paths, start - starts[first], stop - starts[first]

    def _report(self, pieces: Collection[Piece], *, is_last: bool = False) -> None:
        if self._job.progress:
            documents, tokens, num_bytes = (
                sum(getattr(counts, name) for piece in pieces for counts in piece.counts)
                for name in ("num_documents", "num_tokens", "num_bytes")
            )
            total = num_bytes if is_last else self._job.survey.total_bytes
            self._job.progress(
                Prepared(num_bytes=num_bytes, total_bytes=total, num_documents=documents, num_tokens=tokens)
            )
