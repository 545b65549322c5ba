"""What `tttkit train` shows: a progress bar on a terminal, `key=value` lines elsewhere, JSON events on request."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.markup import escape
from rich.progress import BarColumn, TaskID, TextColumn

from tttkit.files import json_safe
from tttkit.rundir import RunDirectory

from .console import err, out, print_json, print_table, progress_bar
from .tables import evaluation_table

LINE_SECONDS = 10.0


class TrainView:
    """Takes the trainer's events; entered for as long as the training runs."""

    def __init__(self, *, plain: bool, quiet: bool, json_events: bool) -> None:
        """Choose how to show: live on a terminal unless told otherwise."""
        self.quiet = quiet
        self.json_events = json_events
        # A bar and events on one terminal would run into each other.
        self._live = err.is_terminal and not (plain or quiet or (json_events and out.is_terminal))
        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[figures]}")
        )  # fmt: skip
        self._progress = progress_bar(*columns, disable=not self._live, expand=True)
        self._task: TaskID | None = None
        self._plan: dict[str, Any] = {}
        self._last_line = -LINE_SECONDS

    def __enter__(self) -> Self:
        """Start the live display, if there is one."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the live display, so that what follows stands on its own lines."""
        self._progress.stop()

    def starting(self, directory: Path) -> None:
        """Say where the run writes, before torch is loaded."""
        self._say(f"run [path]{escape(str(directory))}[/]")

    def preparing(self, num_bytes: int, total_bytes: int | None, num_tokens: int) -> None:
        """Show how far data preparation is."""
        share = num_bytes / total_bytes if total_bytes else 0.0
        self._advance("preparing data", share, f"{num_bytes / 1e6:.1f} MB, {num_tokens:,} tokens")

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
        path = escape(str(run.path))
        if self.json_events:
            end = {"event": "end", "run": str(run.path), **result, "already_ended": already_ended}
            print_json(json_safe(end), indent=None)
        elif summaries:
            print_table(evaluation_table(summaries[-1]))
            out.print(
                f"unigram_ppl={result['unigram_ppl']:.2f} final_ppl_at_1xW={result['final_ppl_at_1xW']:.2f}",
                soft_wrap=True,
            )
        if already_ended:
            self._say(f"{path} is {reason} already; nothing to do")
        models = "best_model[/] and final_model" if summaries else "final_model[/]"
        self._say(f"[ok]{reason}[/] at step {result['step']:,}; models in [path]{path}/{models}")
        evaluate = f" · tttkit plot {path} · tttkit eval checkpoint {path}/best_model" if summaries else ""
        self._say(f"next: tttkit status {path}{evaluate}")

    def _on_plan(self, event: dict[str, Any]) -> None:
        self._plan = event
        evaluations = [step for step in event["evaluation_steps"] if step >= event["step"]]
        verb = "resuming" if event["resumed"] else "training"
        self._say(
            f"{verb} {event['model']}, {event['num_parameters']:,} parameters, W={event['window']}, "
            f"on {event['device']} ({event['precision']}, {event['num_threads']} threads), seed {event['seed']}"
        )
        self._say(
            f"data: {event['train_tokens']:,} training and {event['validation_tokens']:,} validation tokens, "
            f"vocabulary {event['vocab_size']:,}"
        )
        self._say(
            f"plan: steps {event['step']:,} to {event['max_steps']:,} of {event['tokens_per_step']:,} tokens, "
            f"{len(evaluations)} evaluations, two states of {event['state_bytes'] / 1e6:,.1f} MB; "
            f"Ctrl-C saves and stops, the same command goes on"
        )
        self._advance("training", event["step"] / max(1, event["max_steps"]), "")

    def _on_resumed(self, event: dict[str, Any]) -> None:
        self._say(
            f"verified {event['state']} ({event['num_bytes'] / 1e6:,.1f} MB, SHA-256), {len(event['skipped'])} damaged "
            f"skipped, {event['num_steps_lost']:,} logged steps to do again"
        )

    def _on_step(self, event: dict[str, Any]) -> None:
        max_steps = self._plan["max_steps"]
        figures = (
            f"loss {event['loss']:.3f} · ppl {event['ppl']:,.1f} · lr {event['lr']:.1e} · "
            f"{event['tokens_per_second']:,.0f} tok/s · ETA {_duration(event['eta_seconds'])}"
        )
        self._advance(f"step {event['step']:,}/{max_steps:,}", event["step"] / max_steps, figures)
        if self._live or time.monotonic() - self._last_line < LINE_SECONDS:
            return
        self._last_line = time.monotonic()
        self._say(
            f"time={datetime.now().astimezone().isoformat(timespec='seconds')} step={event['step']}/{max_steps} "
            f"loss={event['loss']:.4f} ppl={event['ppl']:.2f} lr={event['lr']:.3e} grad_norm={event['grad_norm']:.3f} "
            f"tokens_per_second={event['tokens_per_second']:.0f} eta_seconds={event['eta_seconds'] or 0:.0f}"
        )

    def _on_evaluating(self, event: dict[str, Any]) -> None:
        self._advance(f"evaluating step {event['step']:,}", event["done"], "")

    def _on_evaluation(self, event: dict[str, Any]) -> None:
        summary = event["summary"]
        labels = [key.removeprefix("ttt_ppl_at_") for key in summary if key.startswith("ttt_ppl_at_")]
        figures = " ".join(
            f"{label}={summary[f'ttt_ppl_at_{label}']:.1f}/{_figure(summary, label)}" for label in labels
        )
        best = " best" if event["is_best"] else ""
        self._say(
            f"evaluation={summary['checkpoint_idx']} step={summary['step']} "
            f"selection_ppl={summary['selection_ppl']:.2f}{best} full/sw: {figures}"
        )

    def _on_saved(self, event: dict[str, Any]) -> None:
        if self._live:
            self._advance(f"saved step {event['step']:,}", event["step"] / max(1, self._plan["max_steps"]), "")

    def _on_warning(self, event: dict[str, Any]) -> None:
        err.print(f"[warning]warning:[/] {escape(event['message'])}", soft_wrap=True)

    def _advance(self, description: str, share: float, figures: str) -> None:
        if not self._live:
            return
        if self._task is None:
            self._task = self._progress.add_task(description, total=1.0, figures=figures)
        self._progress.update(self._task, description=description, completed=share, figures=figures)

    def _say(self, text: str) -> None:
        if not self.quiet:
            err.print(text, soft_wrap=True)


def _figure(summary: dict[str, Any], label: str) -> str:
    value = summary.get(f"sw_ppl_at_{label}")
    return "-" if value is None else f"{value:.1f}"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))
