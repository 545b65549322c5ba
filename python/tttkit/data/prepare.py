"""Sources to a DATA directory: tokenizer.json, shards of both splits, and last of all the manifest.

Python reads and decodes text; Rust encodes, packs and writes it. A directory without a manifest is never taken for a
data set, so an interrupted preparation costs its time and nothing else: the next call starts clean.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tttkit import files
from tttkit._rust import Encoder, Packer
from tttkit.data.claim import MARKER_NAME, claimed, refuse_foreign
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
from tttkit.data.sources import Reading, iter_documents, signature, total_bytes
from tttkit.data.text import BadUtf8, Decoder
from tttkit.data.tokenizer import LoadedTokenizer, load_tokenizer
from tttkit.errors import DataError, UsageError

SHARD_TOKENS = 1 << 26
BATCH_BYTES = 8 << 20

Progress = Callable[[int, int | None, int], None]
"""Called with bytes done, bytes in all if known, tokens written."""


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
    total = total_bytes([*job.sources, *(job.validation or [])])
    loaded = load_tokenizer(job.tokenizer, job.training_texts)  # whatever fails here leaves `out` alone
    with files.disk_full_named(job.out), claimed(job.out):
        manifest = job.run(request, loaded, total)
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
            "signature": signature([*self.sources, *(self.validation or [])]),
        }

    def run(self, request: dict[str, Any], loaded: LoadedTokenizer, total: int | None) -> Manifest:
        """Write the tokenizer and both splits; the manifest is returned, not yet written."""
        self.decoder.num_mended = 0  # a tokenizer trained here has read the text once already
        files.write_text(self.out / TOKENIZER_NAME, loaded.json)
        splits = _pack(self, loaded, total)
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


class _SplitWriter:
    """Collects documents of one split into batches and hands them to Rust."""

    def __init__(self, job: _Job, name: str, loaded: LoadedTokenizer, encoder: Encoder) -> None:
        self.num_bytes = self.num_words = self.num_tokens = 0
        self._packer = Packer(job.out, name, loaded.vocab_size, loaded.eos_id, job.shard_tokens)
        self._encoder = encoder
        self._batch: list[str] = []
        self._batch_bytes = 0

    def add(self, text: str) -> None:
        num_bytes = len(text.encode())
        self.num_bytes += num_bytes
        self.num_words += len(text.split())
        self._batch.append(text)
        self._batch_bytes += num_bytes
        if self._batch_bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        self.num_tokens += self._packer.add(self._encoder, self._batch)
        self._batch, self._batch_bytes = [], 0

    def finish(self) -> SplitEntry:
        self.flush()
        shards = [
            ShardEntry(name=name, num_tokens=tokens, num_documents=documents, max_token=max_token, sha256=sha256)
            for name, tokens, documents, max_token, sha256 in self._packer.finish()
        ]
        return SplitEntry(
            shards=shards,
            num_tokens=sum(shard.num_tokens for shard in shards),
            num_documents=sum(shard.num_documents for shard in shards),
            num_bytes=self.num_bytes,
            num_words=self.num_words,
        )


def _pack(job: _Job, loaded: LoadedTokenizer, total: int | None) -> dict[str, SplitEntry]:
    encoder = Encoder(loaded.json, job.num_threads)
    has_validation = job.validation is not None or job.validation_fraction > 0
    writers = {name: _SplitWriter(job, name, loaded, encoder) for name in ("train", "validation")[: 1 + has_validation]}
    reported = 0
    for split, text in job.texts():
        writers[split].add(text)
        done = sum(writer.num_bytes for writer in writers.values())
        if job.progress and done - reported >= BATCH_BYTES // 8:
            reported = done
            job.progress(done, total, sum(writer.num_tokens for writer in writers.values()))
    splits = {name: writer.finish() for name, writer in writers.items()}
    _refuse_empty(job, splits)
    if job.progress:
        done = sum(split.num_bytes for split in splits.values())
        job.progress(done, done, sum(split.num_tokens for split in splits.values()))
    return splits


def _refuse_empty(job: _Job, splits: dict[str, SplitEntry]) -> None:
    num_documents = sum(split.num_documents for split in splits.values())
    if num_documents == 0:
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
