"""`tttkit data`: prepare, inspect and verify DATA directories."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from tttkit.errors import DataError, UsageError

from .console import err, out, print_json, print_table, progress_bar
from .stopping import stoppable

data_app = typer.Typer(no_args_is_help=False, help="Text to packed token shards.")

_LINE_SECONDS = 10.0
_SAMPLE_TOKENS = 48


@data_app.command()
def prepare(
    sources: Annotated[
        list[str],
        typer.Argument(help="Files, directories, globs, `-` (stdin), hf:NAME[:CONFIG], stdlib.", metavar="SOURCE…"),
    ],
    tokenizer: Annotated[
        str, typer.Option(help="tokenizer.json, directory with vocab.json and merges.txt, gpt2, or bpe:N.")
    ],
    output: Annotated[Path, typer.Option("--out", help="DATA directory to write.")],
    validation: Annotated[
        list[str] | None, typer.Option(help="Source of the validation split. May be repeated.", show_default=False)
    ] = None,
    validation_fraction: Annotated[
        float, typer.Option(help="Share of documents held out, without --validation.")
    ] = 0.05,
    documents: Annotated[str, typer.Option(help="What a document is: file, line, blank-line or wikitext.")] = "file",
    document_pattern: Annotated[
        str | None, typer.Option(help="A document starts at each line this matches.", show_default=False)
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field of jsonl and parquet records that holds the text.")] = "text",
    bad_utf8: Annotated[str, typer.Option(help="Invalid UTF-8: strict, replace or skip.")] = "strict",
    io: Annotated[
        str, typer.Option(help="How shards are read back once written: mmap, or pread for network file systems.")
    ] = "mmap",
    threads: Annotated[
        int | None, typer.Option(help="Threads to encode with (default: all cores).", envvar="TTTKIT_THREADS", min=1)
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Write token shards of text: one packed stream per split, nothing padded, truncated or dropped.

    Example: `tttkit data prepare novels/ --tokenizer bpe:4096 --out data/novels`
    """
    from tttkit.data import open_split, prepare_dataset

    _check_choice("--bad-utf8", bad_utf8, "strict", "replace", "skip")
    _check_choice("--io", io, "mmap", "pread")
    with stoppable(), _PrepareView() as view:
        manifest = prepare_dataset(
            sources,
            output,
            tokenizer,
            validation=validation,
            validation_fraction=validation_fraction,
            threads=threads,
            documents=documents,
            document_pattern=document_pattern,
            text_field=text_field,
            bad_utf8=bad_utf8,  # type: ignore[arg-type]
            progress=view.update,
        )
    for name in manifest.splits:  # what is on disk must be what was written
        open_split(output, name, io=io)  # type: ignore[arg-type]
    shown = escape(str(output))
    if not view.started:
        err.print(f"[path]{shown}[/] is there already, made from the same sources; kept", soft_wrap=True)
    if manifest.num_mended:
        err.print(f"[warning]warning:[/] invalid UTF-8 in {manifest.num_mended:,} files or lines ({bad_utf8})")
    if json_output:
        print_json(dataclasses.asdict(manifest))
    else:
        print_table(_split_table(manifest))
    err.print(f"[ok]ready[/] [path]{shown}[/]; next: tttkit train --data {shown}", soft_wrap=True)


@data_app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="DATA directory.", metavar="DATA")],
    split: Annotated[str, typer.Option(help="Split to look into.")] = "train",
    samples: Annotated[int, typer.Option(help="Decoded samples to show.", min=0)] = 3,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show counts, document lengths and decoded samples of a DATA directory.

    Example: `tttkit data inspect data/novels --samples 3`
    """
    import numpy as np

    from tttkit.data import load_manifest, open_split
    from tttkit.data.tokenizer import load_decoder

    manifest = load_manifest(path)
    opened = open_split(path, split)
    lengths = np.diff(opened.document_ends.astype(np.int64), prepend=0)
    quantiles = {f"p{share}": int(np.percentile(lengths, share)) for share in (5, 50, 95)}
    statistics = {
        "split": split,
        "num_documents": opened.num_documents,
        "document_tokens": {"min": int(lengths.min()), **quantiles, "max": int(lengths.max())},
        "eos_share": opened.num_documents / opened.num_tokens,
        "tokens_per_word": opened.num_tokens / max(1, opened.num_words),
        "bytes_per_token": opened.num_bytes / opened.num_tokens,
    }
    decode = load_decoder(opened.tokenizer_path)
    starts = np.linspace(0, max(0, opened.num_tokens - _SAMPLE_TOKENS), samples).astype(int).tolist()
    texts = [decode(opened.tokens(at, min(at + _SAMPLE_TOKENS, opened.num_tokens)).tolist()) for at in starts]
    if json_output:
        print_json({**dataclasses.asdict(manifest), "statistics": statistics, "samples": texts})
        return
    print_table(_split_table(manifest))
    for key, value in statistics.items():
        shown = " ".join(f"{name}={number:,}" for name, number in value.items()) if isinstance(value, dict) else value
        out.print(f"{key}: {f'{shown:.4g}' if isinstance(shown, float) else shown}", markup=False, soft_wrap=True)
    for at, text in zip(starts, texts, strict=True):
        out.print(f"[{at:,}] {text!r}", markup=False, soft_wrap=True)


@data_app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="DATA directory.", metavar="DATA")],
    io: Annotated[str, typer.Option(help="mmap, or pread for network file systems.")] = "mmap",
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Read every byte: checksums of all files, every id below the vocabulary, the index of documents.

    Example: `tttkit data verify data/novels`
    """
    from tttkit.data import load_manifest, open_split
    from tttkit.files import sha256_of

    _check_choice("--io", io, "mmap", "pread")
    manifest = load_manifest(path)
    for name in manifest.splits:
        split = open_split(path, name, io=io)  # type: ignore[arg-type]
        split.verify()
        if sha256_of(split.tokenizer_path) != manifest.tokenizer_sha256:
            raise DataError(f"{split.tokenizer_path} does not have the SHA-256 that the manifest says")
        if not json_output:
            out.print(f"{name}: {len(manifest.splits[name].shards)} shards, {split.num_tokens:,} tokens, all right")
    if json_output:
        print_json({"data": str(path), "fingerprint": manifest.fingerprint, "splits": list(manifest.splits)})


def _check_choice(option: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise UsageError(f"{option} must be {', '.join(choices[:-1])} or {choices[-1]}, got `{value}`")


class _PrepareView:
    """Progress with MB/s and ETA: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self) -> None:
        self.started = False
        self._progress = progress_bar(
            TextColumn("preparing"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn()
        )
        self._task: TaskID | None = None
        self._begun = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, num_bytes: int, total_bytes: int | None, num_tokens: int) -> None:
        self.started = True
        seconds = max(1e-9, time.monotonic() - self._begun)
        figures = f"{num_bytes / 1e6:,.1f} MB, {num_bytes / 1e6 / seconds:.1f} MB/s, {num_tokens:,} tokens"
        if err.is_terminal:
            if self._task is None:
                self._task = self._progress.add_task("", total=total_bytes, figures=figures)
            self._progress.update(self._task, completed=num_bytes, figures=figures)
        elif time.monotonic() - self._last_line >= _LINE_SECONDS:
            self._last_line = time.monotonic()
            eta = f", {(total_bytes - num_bytes) / num_bytes * seconds:.0f} s left" if total_bytes and num_bytes else ""
            err.print(f"preparing: {figures}{eta}")


def _split_table(manifest: Any) -> Table:
    table = Table(
        title=f"vocabulary {manifest.vocab_size:,}, {manifest.dtype}, fingerprint {manifest.fingerprint[:12]}"
    )
    for name in ("split", "tokens", "documents", "bytes", "words", "shards"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for name, split in manifest.splits.items():
        counts = (split.num_tokens, split.num_documents, split.num_bytes, split.num_words, len(split.shards))
        table.add_row(name, *(f"{count:,}" for count in counts))
    return table
