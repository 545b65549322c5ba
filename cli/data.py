"""`tttkit data`: prepare, inspect and verify DATA directories."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tttkit.errors import DataError, UsageError
from tttkit_cli import prepare_options as options
from tttkit_cli.console import out, print_json, print_rows, print_table
from tttkit_cli.engine import Engine
from tttkit_cli.stopping import stoppable
from tttkit_cli.views.data import (
    PrepareView,
    inspection_rows,
    length_table,
    reading_bar,
    split_table,
    tokenizer_rows,
)

if TYPE_CHECKING:
    from tttkit.cluster.preparation import ClusterEngine

data_app = typer.Typer(no_args_is_help=False, help="Turn text into packed token shards; inspect and verify them.")


@data_app.command()
def prepare(
    sources: options.Sources,
    tokenizer: options.Tokenizer,
    output: options.Output,
    validation: options.Validation = None,
    validation_fraction: options.ValidationFraction = 0.05,
    documents: options.Documents = "file",
    document_pattern: options.DocumentPattern = None,
    text_field: options.TextField = None,
    source_format: options.SourceFormat = "auto",
    bad_records: options.BadRecords = "error",
    bad_utf8: options.BadUtf8 = "strict",
    eos: options.Eos = None,
    special_in_text: options.SpecialInText = "encode",
    pattern: options.Pattern = None,
    io: options.Io = "mmap",
    threads: options.Threads = None,
    engine: Engine = "local",
    json_output: options.Json = False,
) -> None:
    """Turn text into token shards: one packed stream per split, nothing padded, truncated or dropped.

    Example: `tttkit data prepare novels/ --tokenizer bpe:4096 --out data/novels`
    """
    from tttkit.cluster.tasks import check_engine
    from tttkit.data import open_split, prepare_dataset

    _check_choice("--bad-utf8", bad_utf8, "strict", "replace", "skip")
    _check_choice("--bad-records", bad_records, "error", "skip")
    _check_choice("--special-in-text", special_in_text, "encode", "split")
    _check_choice("--io", io, "mmap", "pread")
    check_engine(engine)
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
            eos=eos,
            special_in_text=special_in_text,  # type: ignore[arg-type]
            pattern=pattern,
            progress=view.update,
            engine=_on_cluster(threads) if engine == "ray" else None,
        )  # fmt: skip
    # Open what was written, to see that it can be read.
    for name in manifest.splits:
        open_split(output, name, io=io)  # type: ignore[arg-type]
    view.finished(manifest, output)


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
    from tttkit.data.tokenizer_files import special_tokens

    manifest = load_manifest(path)
    opened = open_split(path, split)
    with reading_bar(opened.num_tokens) as progress:
        others = {name: open_split(path, name) for name in manifest.splits if name != split}
        inspection = inspect_split(opened, others, progress, special_tokens(opened.tokenizer_path))
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
    figures = ((name, f"{rate:.4g}") for name, rate in rates.items())
    print_rows([*inspection_rows(split, inspection), *figures, *tokenizer_rows(manifest)])
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


def _on_cluster(threads: int | None) -> ClusterEngine:
    from tttkit.cluster.preparation import ClusterEngine

    return ClusterEngine(threads)


def _check_choice(option: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise UsageError(f"{option} must be {', '.join(choices[:-1])} or {choices[-1]}, got `{value}`")
