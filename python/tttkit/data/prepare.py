"""Sources to a DATA directory: tokenizer.json, shards of both splits, and last of all the manifest.

Rust reads, cuts, encodes and packs text files; Python names them, and hands over the documents of every other source.
A directory without a manifest is never taken for a data set; a preparation that was killed goes on from its finished
shards to the same bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tttkit import files
from tttkit._rust import Ingest
from tttkit.data.claim import MARKER_NAME, Claim, claimed, refuse_foreign
from tttkit.data.encode import dtype_for
from tttkit.data.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    TOKENIZER_NAME,
    Manifest,
    ShardEntry,
    SplitEntry,
    fingerprint,
    load_manifest,
    save_manifest,
)
from tttkit.data.sources import Reading, Survey, file_documents, iter_documents, iter_inputs, survey
from tttkit.data.text import BadUtf8, Decoder
from tttkit.data.tokenizer import LoadedTokenizer, load_tokenizer
from tttkit.errors import DataError, UsageError

SHARD_TOKENS = 1 << 26
BATCH_BYTES = 8 << 20
"""Text that documents from Python are collected to before they are handed over."""
BATCH_PATHS = 1024
RUN_BYTES = 16 << 20
"""Text between two reports of progress."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """How far a preparation has come, both splits together."""

    num_bytes: int
    """UTF-8 bytes of text."""
    total_bytes: int | None
    """Bytes in all, where that is known beforehand."""
    num_documents: int
    num_tokens: int


Progress = Callable[[Prepared], None]


def prepare_dataset(
    sources: Iterable[str],
    out: str | Path,
    tokenizer: str,
    validation: Iterable[str] | None = None,
    validation_fraction: float = 0.05,
    threads: int | None = None,
    *,
    documents: str = "file",
    document_pattern: str | None = None,
    text_field: str = "text",
    bad_utf8: BadUtf8 = "strict",
    shard_tokens: int = SHARD_TOKENS,
    progress: Progress | None = None,
) -> Manifest:
    """Write DATA directory `out` from `sources` and return its manifest; keep it when it is there already.

    Document d is validation where floor((d+1) f + 1/2) > floor(d f + 1/2), unless `validation` names sources of its
    own. The bytes do not depend on `threads`. Raises UsageError for a wrong source, tokenizer, fraction or `out`,
    DataError for unusable text, DiskFullError.
    """
    job = _Job(
        sources=[str(source) for source in sources],
        validation=[str(source) for source in validation] if validation is not None else None,
        out=Path(out),
        tokenizer=str(tokenizer),
        validation_fraction=validation_fraction,
        reading=Reading(documents=documents, document_pattern=document_pattern, text_field=text_field),
        decoder=Decoder(bad_utf8=bad_utf8),
        num_threads=threads or 0,
        shard_tokens=shard_tokens,
        progress=progress,
    )
    request = job.request()
    if (job.out / MANIFEST_NAME).exists():
        return _keep(job.out, request)
    refuse_foreign(job.out, Path(job.tokenizer))
    loaded = load_tokenizer(job.tokenizer, job.training_texts)  # whatever fails here leaves `out` alone
    with files.disk_full_named(job.out), claimed(job.out, _digest(request, loaded)) as claim:
        manifest = job.run(request, loaded, claim)
        save_manifest(job.out, manifest)
    return manifest


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    sources: list[str]
    validation: list[str] | None
    out: Path
    tokenizer: str
    validation_fraction: float
    reading: Reading
    decoder: Decoder
    num_threads: int
    shard_tokens: int
    progress: Progress | None

    def __post_init__(self) -> None:
        if not 0 <= self.validation_fraction < 1:
            raise UsageError(f"validation_fraction must be at least 0 and below 1, got {self.validation_fraction}")
        if not self.sources:
            raise UsageError("no source given", hint="a file, directory, glob, -, hf:NAME[:CONFIG] or stdlib")
        if self.tokenizer.startswith("bpe:") and "-" in self.sources:
            raise UsageError(
                f"`{self.tokenizer}` reads its source twice, and stdin can be read once", hint="use a file"
            )

    @functools.cached_property
    def survey(self) -> Survey:
        """What is known of the sources before they are read."""
        return survey([*self.sources, *(self.validation or [])])

    def request(self) -> dict[str, Any]:
        """What the data set is made from, to tell whether one that is there is this one."""
        reading = dataclasses.asdict(self.reading)
        return {
            "sources": self.sources,
            "validation": self.validation,
            "tokenizer": self.tokenizer,
            "validation_fraction": self.validation_fraction if self.validation is None else None,
            **reading,
            "bad_utf8": self.decoder.bad_utf8,
            "shard_tokens": self.shard_tokens,
            "signature": self.survey.signature,
        }

    def run(self, request: dict[str, Any], loaded: LoadedTokenizer, claim: Claim) -> Manifest:
        """Write the tokenizer and both splits; the manifest is returned, not yet written."""
        self.decoder.num_mended = 0  # a tokenizer trained here has read the text once already
        files.write_text(self.out / TOKENIZER_NAME, loaded.json)
        splits = _Run(self, loaded, claim).splits()
        return Manifest(
            schema_version=SCHEMA_VERSION,
            tokenizer_sha256=loaded.sha256,
            vocab_size=loaded.vocab_size,
            eos_id=loaded.eos_id,
            dtype=dtype_for(loaded.vocab_size).__name__,
            splits=splits,
            num_mended=self.decoder.num_mended,
            fingerprint=fingerprint(loaded.sha256, splits),
            request=request,
        )

    def texts(self) -> Iterator[tuple[str, str]]:
        """(split, text) of every document in order."""
        documents = iter_documents(self.sources, self.reading, self.decoder)
        fraction = 0.0 if self.validation is not None else self.validation_fraction
        for index, text in enumerate(documents):
            yield ("validation" if is_validation(index, fraction) else "train"), text
        for text in iter_documents(self.validation or [], self.reading, self.decoder, split="validation"):
            yield "validation", text

    def training_texts(self) -> Iterator[str]:
        """Text that a tokenizer is trained on: none of the validation split."""
        return (text for split, text in self.texts() if split == "train")


def is_validation(index: int, fraction: float) -> bool:
    """Whether document `index` (from 0) is held out: floor((d+1) f + 1/2) > floor(d f + 1/2)."""
    return math.floor((index + 1) * fraction + 0.5) > math.floor(index * fraction + 0.5)


def _digest(request: dict[str, Any], loaded: LoadedTokenizer) -> str | None:
    """What tells whether unfinished shards are of this request; None for stdin, which cannot be read twice."""
    if request["signature"] is None:
        return None
    return hashlib.sha256(json.dumps([request, loaded.sha256], sort_keys=True).encode()).hexdigest()


class _Run:
    """Hands the sources to Rust in order, and records each shard that is whole."""

    def __init__(self, job: _Job, loaded: LoadedTokenizer, claim: Claim) -> None:
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
        self._feed(self._job.sources, "train")
        self._ingest.hold_out_all()
        self._feed(self._job.validation or [], "validation")
        finished = self._ingest.finish()
        splits = {
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
        _refuse_empty(self._job, splits)
        self._report(sum(split.num_tokens for split in splits.values()))
        return splits

    def _feed(self, sources: list[str], split: str) -> None:
        inputs = iter_inputs(sources, self._job.reading, self._job.decoder, split=split)
        for kind, group in itertools.groupby(inputs, key=type):
            if kind is str:
                for texts in _batches(group):
                    self._ingest.add_documents(texts)
                    self._work()
            else:
                while paths := list(itertools.islice(group, BATCH_PATHS)):
                    self._ingest.add_paths(paths)
                    self._work()

    def _work(self) -> None:
        try:
            while self._ingest.run(RUN_BYTES):
                self._report()
        except DataError as error:
            self._explain(error)
            raise
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            if error.filename is None or Path(error.filename).parent == self._job.out:
                raise
            raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error
        self._report()

    def _explain(self, error: DataError) -> None:
        """Rust says which file is not UTF-8; reading it again raises with line, byte and hint."""
        name = str(error).removesuffix(": invalid UTF-8")
        if name != str(error):
            for _ in file_documents(Path(name), self._job.reading, self._job.decoder):
                pass

    def _report(self, num_tokens: int | None = None) -> None:
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


def _batches(texts: Iterator[Path | str]) -> Iterator[list[str]]:
    batch: list[str] = []
    num_bytes = 0
    for text in texts:
        batch.append(str(text))
        num_bytes += len(batch[-1])
        if num_bytes >= BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


def _refuse_empty(job: _Job, splits: dict[str, SplitEntry]) -> None:
    num_documents = sum(split.num_documents for split in splits.values())
    if num_documents == 0 or (job.validation is not None and splits["train"].num_documents == 0):
        raise DataError(f"no text in {', '.join(job.sources)}", hint="empty files and blank documents do not count")
    if "validation" in splits and splits["validation"].num_documents == 0:
        if job.validation is not None:
            raise DataError(f"no text in validation source {', '.join(job.validation)}")
        raise DataError(
            f"validation_fraction {job.validation_fraction} chooses none of {num_documents} documents",
            hint=f"the smallest that does is {0.5 / num_documents:.6g}; or name --validation, or cut other --documents",
        )
    if splits["train"].num_documents == 0:
        raise DataError(
            f"all {num_documents} documents went to validation, none is left to train on",
            hint="lower --validation-fraction, or name --validation",
        )


def _keep(out: Path, request: dict[str, Any]) -> Manifest:
    """The data set that is there, when it was made from the same request."""
    manifest = load_manifest(out)
    if manifest.request == request and request["signature"] is not None:
        (out / MARKER_NAME).unlink(missing_ok=True)
        return manifest
    raise UsageError(
        f"{out} already holds another data set, made from {', '.join(manifest.request.get('sources', []))}",
        hint="choose another --out, or remove it first",
    )
