"""`tttkit data`: prepare, inspect and verify DATA directories."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from tttkit.errors import DataError, UsageError
from tttkit_cli.console import err, out, print_json, print_rows, print_table
from tttkit_cli.stopping import stoppable
from tttkit_cli.views.data import PrepareView, inspection_rows, length_table, print_sources, reading_bar, split_table

data_app = typer.Typer(no_args_is_help=False, help="Turn text into packed token shards; inspect and verify them.")


@data_app.command()
def prepare(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="A file, directory, glob, pipe, `-` (stdin), hf:NAME[:CONFIG] or stdlib.", metavar="SOURCE…"
        ),
    ],
    tokenizer: Annotated[
        str,
        typer.Option(help="tokenizer.json, directory with vocab.json and merges.txt, gpt2, or bpe:N (trained here)."),
    ],
    output: Annotated[Path, typer.Option("--out", help="DATA directory to write.")],
    validation: Annotated[
        list[str] | None, typer.Option(help="SOURCE of the validation split; may be repeated.", show_default=False)
    ] = None,
    validation_fraction: Annotated[
        float,
        typer.Option(
            help="Share of documents in the validation split, or of the text if it is one document; "
            "ignored with --validation."
        ),
    ] = 0.05,
    documents: Annotated[
        str, typer.Option(help="Unit of a document: file, line, blank-line (blocks) or wikitext (articles).")
    ] = "file",
    document_pattern: Annotated[
        str | None,
        typer.Option(
            help="Regular expression; a document starts at each line that matches. Overrides --documents.",
            show_default=False,
        ),
    ] = None,
    text_field: Annotated[
        str | None,
        typer.Option(
            help="Field that holds the text of JSON, parquet and data set records (default: text).", show_default=False
        ),
    ] = None,
    source_format: Annotated[
        str,
        typer.Option("--format", help="What the sources hold: text, jsonl, json or parquet; auto: told by the ending."),
    ] = "auto",
    bad_records: Annotated[
        str, typer.Option(help="Handling of records that are broken or whose text is null or missing: error or skip.")
    ] = "error",
    bad_utf8: Annotated[
        str, typer.Option(help="Handling of invalid UTF-8: strict (stop), replace (with U+FFFD) or skip.")
    ] = "strict",
    io: Annotated[
        str, typer.Option(help="How shards are read back after writing: mmap, or pread for network file systems.")
    ] = "mmap",
    threads: Annotated[
        int | None, typer.Option(help="Threads for encoding (default: all cores).", envvar="TTTKIT_THREADS", min=1)
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print JSON lines: progress about every second, the manifest at the end.")
    ] = False,
) -> None:
    """Turn text into token shards: one packed stream per split, nothing padded, truncated or dropped.

    Example: `tttkit data prepare novels/ --tokenizer bpe:4096 --out data/novels`
    """
    from tttkit.data import open_split, prepare_dataset

    _check_choice("--bad-utf8", bad_utf8, "strict", "replace", "skip")
    _check_choice("--bad-records", bad_records, "error", "skip")
    _check_choice("--io", io, "mmap", "pread")
    with stoppable(), PrepareView(json_events=json_output) as view:
        manifest = prepare_dataset(
            sources, output, tokenizer,
            validation=validation,
            validation_fraction=validation_fraction,
            threads=threads,
            documents=documents,
            document_pattern=document_pattern,
            text_field=text_field,
            source_format=source_format,
            bad_utf8=bad_utf8,  # type: ignore[arg-type]
            bad_records=bad_records,  # type: ignore[arg-type]
            progress=view.update,
        )  # fmt: skip
    # Open what was written, to see that it can be read.
    for name in manifest.splits:
        open_split(output, name, io=io)  # type: ignore[arg-type]
    shown = escape(str(output))
    if not view.started:
        err.print(f"[path]{shown}[/] already holds this data set, made from the same sources; kept", soft_wrap=True)
    if manifest.num_mended:
        err.print(f"[warning]warning:[/] invalid UTF-8 in {manifest.num_mended:,} files or lines ({bad_utf8})")
    view.finished(manifest)
    print_sources(manifest)
    err.print(
        f"[ok]ready[/] [path]{shown}[/]; next: tttkit train --data {escape(shlex.quote(str(output)))}", soft_wrap=True
    )


@data_app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="DATA directory.", metavar="DATA")],
    split: Annotated[str, typer.Option(help="Split to inspect.")] = "train",
    samples: Annotated[int, typer.Option(help="Number of decoded windows to show.", min=0)] = 3,
    window: Annotated[int, typer.Option(help="Window W in tokens.", min=1)] = 64,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show counts, document lengths, repeated documents and decoded windows of a DATA directory.

    Example: `tttkit data inspect data/novels --samples 3`
    """
    from tttkit.data import load_manifest, open_split
    from tttkit.data.inspection import inspect_split, window_starts
    from tttkit.data.tokenizer import load_decoder

    manifest = load_manifest(path)
    opened = open_split(path, split)
    with reading_bar(opened.num_tokens) as progress:
        others = {name: open_split(path, name) for name in manifest.splits if name != split}
        inspection = inspect_split(opened, others, progress)
    rates = {
        "tokens_per_word": opened.num_tokens / max(1, opened.num_words),
        "bytes_per_token": opened.num_bytes / opened.num_tokens,
    }
    decode = load_decoder(opened.tokenizer_path)
    starts = window_starts(opened, window, samples)
    texts = [decode(opened.tokens(at, min(at + window, opened.num_tokens)).tolist()) for at in starts]
    if json_output:
        statistics = {"split": split, **inspection.to_dict(), **rates}
        print_json({**dataclasses.asdict(manifest), "statistics": statistics, "samples": texts})
        return
    print_table(split_table(manifest))
    print_rows([*inspection_rows(split, inspection), *((name, f"{rate:.4g}") for name, rate in rates.items())])
    print_table(length_table(inspection))
    for at, text in zip(starts, texts, strict=True):
        out.print(f"[{at:,}] {text!r}", markup=False, soft_wrap=True)


@data_app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="DATA directory.", metavar="DATA")],
    io: Annotated[str, typer.Option(help="How shards are read: mmap, or pread for network file systems.")] = "mmap",
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check every byte: checksums of all files, ids below the vocabulary size, and the index of documents.

    Example: `tttkit data verify data/novels`
    """
    from tttkit.data import load_manifest, open_split
    from tttkit.storage.files import sha256_of

    _check_choice("--io", io, "mmap", "pread")
    manifest = load_manifest(path)
    for name in manifest.splits:
        split = open_split(path, name, io=io)  # type: ignore[arg-type]
        split.verify()
        if sha256_of(split.tokenizer_path) != manifest.tokenizer_sha256:
            raise DataError(
                f"{split.tokenizer_path} is damaged: its SHA-256 is not the one in the manifest",
                hint="prepare the data again",
            )
        if not json_output:
            count = len(manifest.splits[name].shards)
            shards = f"{count} shard{'s' if count != 1 else ''}"
            out.print(f"{name}: {shards}, {split.num_tokens:,} tokens, verified")
    if json_output:
        print_json({"data": str(path), "fingerprint": manifest.fingerprint, "splits": list(manifest.splits)})


def _check_choice(option: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise UsageError(f"{option} must be {', '.join(choices[:-1])} or {choices[-1]}, got `{value}`")
