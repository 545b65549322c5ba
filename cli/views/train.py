"""What `tttkit train` shows: live rows on a terminal, `key=value` lines elsewhere, JSON events on request."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.markup import escape

from tttkit.results.summary import Summary
from tttkit.run.directory import RunDirectory
from tttkit.storage.files import json_safe
from tttkit_cli.console import err, out, print_json, print_rows, print_table, room
from tttkit_cli.views.tables import evaluation_table
from tttkit_cli.views.train_live import LiveRows
from tttkit_cli.views.train_screens import evaluation_fields, evaluation_line, first_screen, last_screen

if TYPE_CHECKING:
    from tttkit.data.job import Prepared

LINE_SECONDS = 10.0
LINE_SHARE = 0.01
"""Elsewhere than on a terminal a line is due after this time and this share of the run, whichever is later."""


class TrainView:
    """Takes the trainer's events; entered for as long as the training runs."""

    def __init__(self, *, plain: bool, quiet: bool, json_events: bool) -> None:
        """Choose how to show: live on a terminal unless told otherwise."""
        self.quiet = quiet
        self.json_events = json_events
        # Rows and events on one terminal would run into each other.
        live = err.is_terminal and not (plain or quiet or (json_events and out.is_terminal))
        self._rows = LiveRows() if live else None
        self._plan: dict[str, Any] = {}
        self._started = time.monotonic()
        self._last_line, self._last_step = -LINE_SECONDS, 0

    def __enter__(self) -> Self:
        """Start the live display, if there is one."""
        if self._rows:
            self._rows.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the live display, so that what follows stands on its own lines."""
        if self._rows:
            self._rows.stop()

    def starting(self, directory: Path) -> None:
        """Said before torch is loaded, which takes seconds."""
        self._say(f"run {escape(str(directory))}: loading")

    def preparing(self, prepared: Prepared) -> None:
        """Progress of the data preparation of a preset."""
        if self._rows:
            share = prepared.num_bytes / prepared.total_bytes if prepared.total_bytes else None
            self._rows.preparing(share, f"{prepared.num_documents:,} documents")

    def event(self, event: dict[str, Any]) -> None:
        """Show one event of the trainer."""
        if self.json_events:
            print_json(json_safe(event), indent=None)
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def finished(self, run: RunDirectory, reason: str, *, already_ended: bool) -> None:
        """The last screen: what came out, and what to do next."""
        summaries, result = run.read_summaries(), run.read_metadata()["result"]
        if self.json_events:
            end = {"event": "end", "run": str(run.path), **result, "already_ended": already_ended}
            print_json(json_safe(end), indent=None)
        elif summaries:
            print_table(evaluation_table(summaries[-1], width=room()))
            out.print(
                f"unigram_ppl={result['unigram_ppl']:.2f} final_ppl_at_1xW={result['final_ppl_at_1xW']:.2f}",
                soft_wrap=room() is None,
            )
        if already_ended:
            self._say(f"{escape(str(run.path))} is {reason} already; nothing to do")
        else:
            self._say(f"[ok]{reason}[/] at step {result['step']:,}")
        if not self.quiet:
            print_rows(last_screen(self._plan, result, str(run.path), time.monotonic() - self._started), err)

    def _on_plan(self, event: dict[str, Any]) -> None:
        self._plan = event
        self._last_step = event["step"]
        if self._rows:
            self._rows.prepared()
        if not self.quiet:
            err.print(f"{'resuming' if event['resumed'] else 'training'} [path]{escape(event['run'])}[/]")
            print_rows(first_screen(event, os.environ), err)
        if self._rows:
            self._rows.begin(event)

    def _on_resumed(self, event: dict[str, Any]) -> None:
        self._say(
            f"verified {event['state']} ({event['num_bytes'] / 1e6:,.1f} MB, SHA-256), {len(event['skipped'])} damaged "
            f"skipped, {event['num_steps_lost']:,} logged steps to do again"
        )

    def _on_step(self, event: dict[str, Any]) -> None:
        if self._rows:
            self._rows.show(event)
            return
        step, max_steps = event["step"], self._plan["max_steps"]
        is_first = self._last_line < 0
        waited = time.monotonic() - self._last_line >= LINE_SECONDS and step - self._last_step >= LINE_SHARE * max_steps
        if not (is_first or waited or step == max_steps):
            return
        self._last_line, self._last_step = time.monotonic(), step
        eta = event["eta_seconds"]
        window = f" window={event['window']}" if "window" in event else ""
        self._say(
            f"time={datetime.now().astimezone().isoformat(timespec='seconds')} step={step}/{max_steps}{window} "
            f"loss={event['loss']:.4f} ppl={event['ppl']:.2f} lr={event['lr']:.3e} grad_norm={event['grad_norm']:.3f} "
            f"tokens_per_second={event['tokens_per_second']:.0f} eta_seconds={'-' if eta is None else round(eta)}"
        )

    def _on_evaluating(self, event: dict[str, Any]) -> None:
        if self._rows:
            self._rows.busy(f"evaluating step {event['step']:,}", event["done"])

    def _on_evaluation(self, event: dict[str, Any]) -> None:
        summary = event["summary"]
        self._say(evaluation_line(event) if self._rows else evaluation_fields(event))
        if not self.quiet and (self.json_events or not event["is_last"]):  # the last one is the result: `finished`
            print_table(evaluation_table(Summary(summary), width=room(err)), err)
        if self._rows:
            self._rows.at_step(summary["step"])

    def _on_saved(self, event: dict[str, Any]) -> None:
        if self._rows:
            self._rows.at_step(event["step"])

    def _on_warning(self, event: dict[str, Any]) -> None:
        err.print(f"[warning]warning:[/] {escape(event['message'])}", soft_wrap=True)

    def _say(self, text: str) -> None:
        if not self.quiet:
            err.print(text, soft_wrap=room(err) is None)
