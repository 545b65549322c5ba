"""The output of `tttkit data`: progress of a preparation, and the tables of `inspect`."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from tttkit.data.formats import DATA_SET
from tttkit_cli.console import err, print_json, print_table, progress_bar
from tttkit_cli.views.units import duration

if TYPE_CHECKING:
    from tttkit.data.inspection import Inspection
    from tttkit.data.job import Prepared
    from tttkit.data.manifest import Manifest

_LINE_SECONDS = 10.0
_EVENT_SECONDS = 1.0
_BAR_WIDTH = 30
_MUCH_SHARED = 0.2
"""Share of the validation text in the training text from which on a warning is printed."""


class PrepareView:
    """Progress with MB/s, tokens and ETA: a bar on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, *, json_events: bool) -> None:
        """With `json_events`, also print a `progress` event on stdout about every second."""
        self.started = False
        self._json_events = json_events
        self._bar = progress_bar(
            TextColumn("preparing"), BarColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn()
        )
        self._task = self._bar.add_task("", total=None, figures="listing files, loading or training the tokenizer")
        self._begun = self._last_line = self._last_event = time.monotonic()
        self._first: tuple[float, int] | None = None

    def __enter__(self) -> Self:
        """Show the bar on a terminal."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self._bar.stop()

    def update(self, prepared: Prepared) -> None:
        """Show the progress."""
        self.started = True
        now = time.monotonic()
        begun, num_bytes = self._first or (self._begun, 0)
        rate = (prepared.num_bytes - num_bytes) / max(1e-9, now - begun)
        # The tokenizer is made before the first text, and may take longer than everything after it.
        self._first = self._first or (now, prepared.num_bytes)
        left = None
        if prepared.total_bytes is not None and rate > 0:
            left = max(0, prepared.total_bytes - prepared.num_bytes) / rate
        if self._json_events and now - self._last_event >= _EVENT_SECONDS:
            self._last_event = now
            self._print_event(prepared, rate, left)
        figures = f"{prepared.num_bytes / 1e6:,.1f} MB, {rate / 1e6:.1f} MB/s, {prepared.num_tokens:,} tokens"
        if err.is_terminal:
            self._bar.update(self._task, total=prepared.total_bytes, completed=prepared.num_bytes, figures=figures)
        elif now - self._last_line >= _LINE_SECONDS:
            self._last_line = now
            err.print(f"preparing: {figures}, {prepared.num_documents:,} documents, {_left(left)}")

    def finished(self, manifest: Manifest, output: Path) -> None:
        """Print warnings, the counts of the data set in `output` as the last event or as a table, and what is next."""
        shown = escape(str(output))
        if not self.started:
            err.print(f"[path]{shown}[/] already holds this data set, made from the same sources; kept", soft_wrap=True)
        warnings = list(manifest.tokenizer_notes)
        if manifest.num_mended:
            handling = manifest.request["bad_utf8"]
            warnings.append(f"invalid UTF-8 in {manifest.num_mended:,} files or lines ({handling})")
        for warning in warnings:
            err.print(f"[warning]warning:[/] {escape(warning)}", soft_wrap=True)
        if self._json_events:
            print_json({"event": "end", **dataclasses.asdict(manifest)}, indent=None)
        else:
            print_table(split_table(manifest))
        print_sources(manifest)
        command = escape(f"tttkit train --data {shlex.quote(str(output))}")
        err.print(f"[ok]ready[/] [path]{shown}[/]; next: {command}", soft_wrap=True)

    def _print_event(self, prepared: Prepared, rate: float, left: float | None) -> None:
        event = {
            "event": "progress",
            "num_bytes": prepared.num_bytes,
            "total_bytes": prepared.total_bytes,
            "num_documents": prepared.num_documents,
            "num_tokens": prepared.num_tokens,
            "seconds": round(time.monotonic() - self._begun, 3),
            "megabytes_per_second": round(rate / 1e6, 3),
            "eta_seconds": None if left is None else round(left, 1),
        }
        print_json(event, indent=None)


@contextmanager
def reading_bar(num_tokens: int) -> Iterator[Callable[[int], None]]:
    """Show a bar while a split is read. Yields a function that takes the number of tokens read so far."""
    with progress_bar(TextColumn("reading"), BarColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=num_tokens)
        yield lambda done: bar.update(task, completed=done)


def split_table(manifest: Manifest) -> Table:
    """Return a table with the counts of every split."""
    table = Table(
        title=f"vocabulary {manifest.vocab_size:,}, {manifest.dtype}, fingerprint {manifest.fingerprint[:12]}"
    )
    for name in ("split", "tokens", "documents", "bytes", "words", "shards"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for name, split in manifest.splits.items():
        counts = (split.num_tokens, split.num_documents, split.num_bytes, split.num_words, len(split.shards))
        table.add_row(name, *(f"{count:,}" for count in counts))
    return table


def _counted(name: str, count: int) -> str:
    """Return a number of files of a format, or of data sets."""
    kind = name if name == DATA_SET else f"{name} file"
    return f"{count:,} {kind}{'' if count == 1 else 's'}"


def print_sources(manifest: Manifest) -> None:
    """Print what was read from the sources, and what was left out and why."""
    if manifest.num_files:
        err.print(f"read {', '.join(_counted(name, count) for name, count in manifest.num_files.items())}")
    for item in manifest.left_out:
        reason = escape(f"{item.count:,} {item.what}: {item.why} (first: {item.first})")
        err.print(f"[warning]left out[/] {reason}", soft_wrap=True)
    share = manifest.validation_in_train or 0
    if share >= _MUCH_SHARED:
        err.print(
            f"[warning]warning:[/] {share:.0%} of the validation text is also in the training text, so its perplexity "
            "shows what was memorized; name other text with --validation",
            soft_wrap=True,
        )
    if manifest.cut_at is not None:
        err.print(f"one document only: its text from byte {manifest.cut_at:,} on is the validation split")


def inspection_rows(split: str, inspection: Inspection) -> list[tuple[str, str]]:
    """Return (name, markup) of each figure of an inspection."""
    quantiles = " ".join(f"{name}={count:,}" for name, count in inspection.document_tokens.items())
    share = inspection.num_repeated / inspection.num_documents
    repeated = f"{inspection.num_repeated:,} ({share:.2%}) equal an earlier one"
    if inspection.num_repeated:
        repeated = f"[warning]{repeated}, one occurs {inspection.most_copies:,} times[/]"
    rows = [
        ("documents", f"{inspection.num_documents:,} in {split}"),
        ("document_tokens", f"mean={inspection.mean_length:,.1f} {quantiles}"),
        ("eos_share", f"{inspection.eos_share:.4g}"),
        ("repeated", repeated),
    ]
    for name, count in inspection.num_also_in.items():
        rows.append((f"also in {name}", f"[warning]{count:,} documents[/]" if count else "none"))
    if inspection.num_eos_inside:
        inside = f"[warning]{inspection.num_eos_inside:,} end-of-text tokens are inside documents[/]"
        rows.append(("inside text", inside))
    if inspection.num_special_inside:
        spelled = ", ".join(f"{escape(name)} {count:,}" for name, count in inspection.num_special_inside.items())
        rows.append(("special tokens", f"[warning]the text itself spells {spelled}[/]"))
    return rows


def tokenizer_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """Return (name, markup) of each fact about the use of the tokenizer."""
    treated = {"encode": "gave the id of the token", "split": "was encoded as ordinary text"}[manifest.special_in_text]
    rows = [("special_in_text", f"{manifest.special_in_text}: a text that spells a special token {treated}")]
    return rows + [("note", escape(note)) for note in manifest.tokenizer_notes]


def length_table(inspection: Inspection) -> Table:
    """Return a histogram of document lengths in tokens, whose bins double from row to row."""
    table = Table()
    for name in ("tokens", "documents"):
        table.add_column(name, justify="right")
    table.add_column("share")
    most = max(count for _, _, count in inspection.histogram)
    for shortest, longest, count in inspection.histogram:
        length = f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"
        table.add_row(length, f"{count:,}", "▪" * -(-count * _BAR_WIDTH // most))
    return table


def _left(seconds: float | None) -> str:
    return "total size unknown" if seconds is None else f"{duration(seconds)} left"
