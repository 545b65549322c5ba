"""Prepare a DATA directory from sources: tokenizer.json, the shards of both splits, and last the manifest.

Python passes the paths of text files to Rust, which reads, cuts, encodes and packs them. Python reads every other
source itself and passes its text to Rust. A directory without a manifest is not a data set. A preparation that was
killed resumes from its finished shards and writes the same bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tttkit._rust import TokenSplit
from tttkit.data.account import describe, shown
from tttkit.data.encode import dtype_for
from tttkit.data.feeding import count_words
from tttkit.data.formats import AUTO
from tttkit.data.ingest import Engine, ThisMachine
from tttkit.data.job import Job, PrepareProgress
from tttkit.data.manifest import (
    MANIFEST_NAME,
    SCHEMA_VERSION,
    TOKENIZER_NAME,
    Manifest,
    SplitEntry,
    fingerprint,
    load_manifest,
    save_manifest,
)
from tttkit.data.output import MARKER_NAME, OutputDirectory, check_output, locked_output
from tttkit.data.reader import BadRecords, Reader, Reading
from tttkit.data.sources import Source, parse_source
from tttkit.data.text import BadUtf8, Utf8Decoder
from tttkit.data.tokenizer import LoadedTokenizer, SpecialInText, TokenizerOptions, load_tokenizer
from tttkit.errors import DataError, UsageError
from tttkit.run.cores import available_cores
from tttkit.storage import files

SHARD_TOKENS = 1 << 26
"""Tokens of a full shard."""


def prepare_dataset(
    sources: str | Path | Iterable[str | Path],
    out: str | Path,
    tokenizer: str,
    validation: str | Path | Iterable[str | Path] | None = None,
    validation_fraction: float = 0.05,
    threads: int | None = None,
    *,
    documents: str = "file",
    document_pattern: str | None = None,
    text_field: str | None = None,
    source_format: str = AUTO,
    bad_utf8: BadUtf8 = "strict",
    bad_records: BadRecords = "error",
    eos: str | None = None,
    special_in_text: SpecialInText = "encode",
    pattern: str | None = None,
    shard_tokens: int = SHARD_TOKENS,
    progress: PrepareProgress | None = None,
    engine: Engine | None = None,
) -> Manifest:
    """Write DATA directory `out` from `sources` and return its manifest. Keep `out` if it already holds that data set.

    Document d (from 0) belongs to the validation split if floor((d+1) f + 1/2) > floor(d f + 1/2), unless
    `validation` names sources for it. `TokenizerOptions` describes `eos`, `special_in_text` and `pattern`. The bytes
    depend neither on `threads`, of which None means all cores, nor on `engine`, of which None means this machine.
    Raises UsageError for a wrong source, tokenizer, fraction or `out`, DataError for unusable text, DiskFullError.
    """
    rules = Reading(
        documents=documents, document_pattern=document_pattern, text_field=text_field, format=source_format,
        bad_records=bad_records,
    )  # fmt: skip
    job = Job(
        sources=_parse(sources),
        validation=None if validation is None else _parse(validation),
        out=Path(out),
        tokenizer=str(tokenizer),
        tokenizer_options=TokenizerOptions(eos=eos, special_in_text=special_in_text, pattern=pattern),
        validation_fraction=validation_fraction,
        reader=Reader(rules=rules, decoder=Utf8Decoder(bad_utf8=bad_utf8)),
        num_threads=available_cores() if threads is None else threads,
        shard_tokens=shard_tokens,
        progress=progress,
    )
    request = job.request()
    engine = engine or ThisMachine()
    if (job.out / MANIFEST_NAME).exists():
        return _keep(job, request, engine)
    check_output(job.out, Path(job.tokenizer))
    job.check()
    return _make(job, request, engine)


def _make(job: Job, request: dict[str, Any], engine: Engine) -> Manifest:
    """Prepare the data set in `job.out`."""
    engine.check(job)
    # The tokenizer is loaded before `out` is made, so that a failure leaves `out` alone.
    loaded = load_tokenizer(job.tokenizer, functools.partial(count_words, job), job.tokenizer_options)
    with files.disk_full_named(job.out), locked_output(job.out, job.digest(loaded)) as output:
        manifest = _write(job, request, loaded, output, engine)
        output.keep_only({shard.name for split in manifest.splits.values() for shard in split.shards})
        save_manifest(job.out, manifest)
    return manifest


def _parse(sources: str | Path | Iterable[str | Path]) -> list[Source]:
    """Parse one source or several; a string is one source, not an iterable of letters. Raises UsageError."""
    several = [sources] if isinstance(sources, str | os.PathLike) else sources
    return [parse_source(os.fspath(source)) for source in several]


def _write(
    job: Job, request: dict[str, Any], loaded: LoadedTokenizer, output: OutputDirectory, engine: Engine
) -> Manifest:
    """Write the tokenizer and both splits. Return the manifest, which is not written yet."""
    job.reader.restart()  # training a tokenizer has read the text once already
    files.write_text(job.out / TOKENIZER_NAME, loaded.json)
    splits = engine.splits(job, loaded, output)
    _refuse_empty(job, splits)
    return Manifest(
        schema_version=SCHEMA_VERSION,
        tokenizer_sha256=loaded.sha256,
        vocab_size=loaded.vocab_size,
        eos_id=loaded.eos_id,
        special_in_text=job.tokenizer_options.special_in_text,
        tokenizer_notes=loaded.notes,
        dtype=dtype_for(loaded.vocab_size).__name__,
        splits=splits,
        num_mended=job.reader.decoder.num_repaired,
        num_files=job.reader.account.num_files,
        left_out=job.reader.account.left_out,
        validation_in_train=_shared_share(job.out, splits),
        cut_at=job.parts[1].start if job.parts else None,
        fingerprint=fingerprint(loaded.sha256, splits, job.tokenizer_options.special_in_text),
        request=request,
    )


def _shared_share(out: Path, splits: dict[str, SplitEntry]) -> float | None:
    """Return the share of passages of the validation split that are in the train split too."""
    if "validation" not in splits:
        return None
    train, validation = (
        TokenSplit([out / shard.name for shard in splits[name].shards]) for name in ("train", "validation")
    )
    num_passages, num_shared = validation.overlap(train)
    return num_shared / num_passages


def _refuse_empty(job: Job, splits: dict[str, SplitEntry]) -> None:
    num_documents = sum(split.num_documents for split in splits.values())
    if num_documents == 0 or (job.validation is not None and splits["train"].num_documents == 0):
        left_out = describe(job.reader.account.left_out)
        raise DataError(
            f"no text in {_names(job.sources)}" + (f"; left out: {left_out}" if left_out else ""),
            hint="empty files and blank documents do not count",
        )
    if job.validation is not None and splits["validation"].num_documents == 0:
        raise DataError(f"no text in validation source {_names(job.validation)}")
    if "validation" not in splits or all(split.num_documents for split in splits.values()):
        return
    if num_documents == 1:
        other = (
            "--documents line" if job.reader.rules.keeps_texts_whole else "--documents file, which cuts one text in two"
        )
        raise DataError(
            "the sources hold one document, so there is none to hold out for validation",
            hint=f"name the validation split with --validation, or pass {other}",
        )
    if splits["validation"].num_documents == 0:
        raise DataError(
            f"validation_fraction {job.validation_fraction} chooses none of {num_documents} documents",
            hint=f"the smallest that does is {0.5 / num_documents:.6g}; or name --validation, or change --documents",
        )
    raise DataError(
        f"all {num_documents} documents went to the validation split, so none is left for training",
        hint="lower --validation-fraction, or name --validation",
    )


def _names(sources: Iterable[Source]) -> str:
    return ", ".join(shown(source.text) for source in sources)


def _keep(job: Job, request: dict[str, Any], engine: Engine) -> Manifest:
    """Return the manifest of the existing data set if the request gives the same one. Raises UsageError."""
    out, manifest = job.out, load_manifest(job.out)
    if request["signature"] is not None and _is_same_tokenizer(job, manifest):
        if manifest.request == request:
            (out / MARKER_NAME).unlink(missing_ok=True)
            return manifest
        if manifest.request | {"signature": None} == request | {"signature": None} and _is_same_text(
            job, manifest, engine
        ):
            manifest = dataclasses.replace(manifest, request=request)
            save_manifest(out, manifest)
            return manifest
    raise UsageError(
        f"{out} already holds another data set, made from {', '.join(manifest.request.get('sources', []))}",
        hint=f"choose another --out, or remove {out} first",
    )


def _is_same_text(job: Job, manifest: Manifest, engine: Engine) -> bool:
    """Whether sources that were touched still hold the text of the data set: prepare it beside and compare."""
    beside = job.out.absolute().with_name(f".{job.out.name}.compared")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        return _make(dataclasses.replace(job, out=beside), job.request(), engine).fingerprint == manifest.fingerprint
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _is_same_tokenizer(job: Job, manifest: Manifest) -> bool:
    """Whether the tokenizer is the one of the data set, by content. A trained one follows from the request."""
    if job.tokenizer.startswith("bpe:"):
        return True
    loaded = load_tokenizer(job.tokenizer, options=job.tokenizer_options)
    return (loaded.sha256, loaded.eos_id) == (manifest.tokenizer_sha256, manifest.eos_id)
