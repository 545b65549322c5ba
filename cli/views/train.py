"""The output of `tttkit train`: live rows on a terminal, `key=value` lines elsewhere, JSON events with `--json`."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.markup import escape

from tttkit.run.directory import RunDirectory
from tttkit.storage.files import json_safe
from tttkit.train.events import Evaluated, Evaluating, Event, Plan, Resumed, Saved, StepLogged, Warned
from tttkit_cli.console import err, out, print_json, print_rows, print_table, room, warn
from tttkit_cli.views.tables import evaluation_table
from tttkit_cli.views.train_live import LiveRows
from tttkit_cli.views.train_screens import evaluation_fields, evaluation_line, first_screen, last_screen

if TYPE_CHECKING:
    from tttkit.data.job import Prepared

LINE_SECONDS = 10.0
LINE_SHARE = 0.01
"""Without a terminal a line is due after LINE_SECONDS and LINE_SHARE of the run, whichever is later."""


class TrainView:
    """Shows the events of a training; entered for as long as the training runs."""

    def __init__(self, *, plain: bool, quiet: bool, json_events: bool) -> None:
        """Choose the output: live rows on a terminal, unless an option says otherwise."""
        self.quiet = quiet
        self.json_events = json_events
        # Live rows and JSON events would overwrite each other on one terminal.
        live = err.is_terminal and not (plain or quiet or (json_events and out.is_terminal))
        self._rows = LiveRows() if live else None
        self._plan: Plan | None = None
        self._started = time.monotonic()
        self._last_line, self._last_step = -LINE_SECONDS, 0

    def __enter__(self) -> Self:
        """Start the live rows, if there are any."""
        if self._rows:
            self._rows.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Erase the live rows, so that later output has lines of its own."""
        if self._rows:
            self._rows.stop()

    def starting(self, directory: Path) -> None:
        """Say that the run starts, before torch is loaded, which takes seconds."""
        self._say(f"run {escape(str(directory))}: loading")

    def preparing(self, prepared: Prepared) -> None:
        """Show the progress of the data preparation."""
        if self._rows:
            share = prepared.num_bytes / prepared.total_bytes if prepared.total_bytes else None
            self._rows.preparing(share, f"{prepared.num_documents:,} documents")

    def event(self, event: Event) -> None:
        """Show one event."""
        if self.json_events:
            print_json(json_safe(event.to_dict()), indent=None)
        match event:
            case Plan():
                self._show_plan(event)
            case Resumed():
                self._show_resumed(event)
            case StepLogged():
                self._show_step(event)
            case Evaluating() if self._rows:
                self._rows.busy(f"evaluating step {event.step:,}", event.done)
            case Evaluated():
                self._show_evaluation(event)
            case Saved() if self._rows:
                self._rows.at_step(event.step)
            case Warned():
                warn(event.message)

    def finished(self, run: RunDirectory, reason: str, *, already_ended: bool) -> None:
        """Show the last screen: the results and the next commands."""
        result = run.read_metadata()["result"]
        self._show_result(run, result, already_ended=already_ended)
        if already_ended:
            self._say(f"{escape(str(run.path))} is {reason} already; nothing to do")
        else:
            self._say(f"[ok]{reason}[/] at step {result['step']:,}")
        if not self.quiet:
            print_rows(last_screen(self._plan, result, str(run.path), time.monotonic() - self._started), err)

    def _show_result(self, run: RunDirectory, result: dict[str, Any], *, already_ended: bool) -> None:
        """Print the result on stdout: the event `end`, or the last evaluation."""
        if self.json_events:
            end = {"event": "end", "run": str(run.path), **result, "already_ended": already_ended}
            print_json(json_safe(end), indent=None)
        elif summaries := run.read_summaries():
            print_table(evaluation_table(summaries[-1], width=room()))
            unigram, final = (_fixed(result[key]) for key in ("unigram_ppl", "final_ppl_at_1xW"))
            out.print(f"unigram_ppl={unigram} final_ppl_at_1xW={final}", soft_wrap=room() is None)

    def _show_plan(self, plan: Plan) -> None:
        self._plan = plan
        self._last_step = plan.step
        if self._rows:
            self._rows.prepared()
        if not self.quiet:
            err.print(f"{'resuming' if plan.resumed else 'training'} [path]{escape(plan.run)}[/]")
            print_rows(first_screen(plan, os.environ), err)
        if self._rows:
            self._rows.begin(plan)

    def _show_resumed(self, event: Resumed) -> None:
        self._say(
            f"verified {event.state} ({event.num_bytes / 1e6:,.1f} MB, SHA-256), {len(event.skipped)} damaged "
            f"skipped, {event.num_steps_lost:,} logged steps to compute again"
        )

    def _show_step(self, event: StepLogged) -> None:
        if self._rows:
            self._rows.show(event)
        elif self._is_line_due(event.step):
            self._last_line, self._last_step = time.monotonic(), event.step
            self._say(self._line(event))

    def _is_line_due(self, step: int) -> bool:
        max_steps = self._plan.max_steps if self._plan else step
        is_first = self._last_line < 0
        waited = time.monotonic() - self._last_line >= LINE_SECONDS and step - self._last_step >= LINE_SHARE * max_steps
        return is_first or waited or step == max_steps

    def _line(self, event: StepLogged) -> str:
        eta, total = event.eta_seconds, self._plan.max_steps if self._plan else "-"
        window = "" if event.window is None else f" window={event.window}"
        return (
            f"time={datetime.now().astimezone().isoformat(timespec='seconds')} step={event.step}/{total}{window} "
            f"loss={event.loss:.4f} ppl={event.ppl:.2f} lr={event.learning_rate:.3e} grad_norm={event.grad_norm:.3f} "
            f"tokens_per_second={event.tokens_per_second:.0f} eta_seconds={'-' if eta is None else round(eta)}"
        )

    def _show_evaluation(self, event: Evaluated) -> None:
        self._say(evaluation_line(event) if self._rows else evaluation_fields(event))
        if not self.quiet and (self.json_events or not event.is_last):  # `finished` shows the last one on stdout
            print_table(evaluation_table(event.summary, width=room(err)), err)
        if self._rows:
            self._rows.at_step(event.summary.step or 0)

    def _say(self, text: str) -> None:
        if not self.quiet:
            err.print(text, soft_wrap=room(err) is None)


def _fixed(value: object) -> str:
    """Format a perplexity of metadata.json with two decimals; one that is not finite stays as it is there."""
    return f"{value:.2f}" if isinstance(value, int | float) else str(value)
