"""The options of `tttkit data prepare`, as types of parameters with their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_TOKENIZER_PANEL = "Tokenizer"

Sources = Annotated[
    list[str],
    typer.Argument(help="A file, directory, glob, pipe, `-` (stdin), hf:NAME[:CONFIG] or stdlib.", metavar="SOURCE…"),
]
Output = Annotated[Path, typer.Option("--out", help="DATA directory to write.")]
Validation = Annotated[
    list[str] | None, typer.Option(help="SOURCE of the validation split; may be repeated.", show_default=False)
]
ValidationFraction = Annotated[
    float,
    typer.Option(
        help="Share of documents in the validation split, or of the text if it is one document; "
        "ignored with --validation."
    ),
]
Documents = Annotated[
    str, typer.Option(help="Unit of a document: file, line, blank-line (blocks) or wikitext (articles).")
]
DocumentPattern = Annotated[
    str | None,
    typer.Option(
        help="Regular expression; a document starts at each line that matches. Overrides --documents.",
        show_default=False,
    ),
]
TextField = Annotated[
    str | None,
    typer.Option(
        help="Field that holds the text of JSON, parquet and data set records (default: text).", show_default=False
    ),
]
SourceFormat = Annotated[
    str,
    typer.Option("--format", help="What the sources hold: text, jsonl, json or parquet; auto: told by the ending."),
]
BadRecords = Annotated[
    str, typer.Option(help="Handling of records that are broken or whose text is null or missing: error or skip.")
]
BadUtf8 = Annotated[str, typer.Option(help="Handling of invalid UTF-8: strict (stop), replace (with U+FFFD) or skip.")]
Io = Annotated[
    str, typer.Option(help="How shards are read back after writing: mmap, or pread for network file systems.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads for encoding (default: all cores; with --engine ray of each task: OMP_NUM_THREADS, else 1).",
        envvar="TTTKIT_THREADS",
        min=1,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON lines: progress about every second, the manifest at the end.")
]
Tokenizer = Annotated[
    str,
    typer.Option(
        help="tokenizer.json, directory of a model, gpt2, or bpe:N (trained here).", rich_help_panel=_TOKENIZER_PANEL
    ),
]
Eos = Annotated[
    str | None,
    typer.Option(
        help="End-of-text token, which ends each document (default: the one that the tokenizer's files name).",
        metavar="TOKEN",
        show_default=False,
        rich_help_panel=_TOKENIZER_PANEL,
    ),
]
SpecialInText = Annotated[
    str,
    typer.Option(
        help="Encoding of a text that spells a special token: encode (the id of the token) or split (ordinary text).",
        rich_help_panel=_TOKENIZER_PANEL,
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        help="How bpe:N cuts words: gpt2 (default), llama3, qwen, o200k, or a file with a regular expression or a "
        "tokenizer.json.",
        show_default=False,
        rich_help_panel=_TOKENIZER_PANEL,
    ),
]
