"""The live part of `tttkit train` on a terminal: a row for the run, a row to the next checkpoint, the vital figures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from tttkit_cli.console import err
from tttkit_cli.views.units import finish_time, perplexity, speed

_SMOOTHING = 0.9


class LiveRows(Progress):
    """Two progress rows and the figures below them, at most four redraws a second; gone when it stops."""

    def __init__(self) -> None:
        """Draw on stderr's terminal; nothing is drawn before `start`."""
        self._figures: list[str] = []  # the parent draws once while it is made
        self._loss, self._weight = 0.0, 0.0
        self._steps: list[int] = []
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[count]}", justify="right"),
            TextColumn("{task.percentage:>3.0f} %"),
            console=err,
            transient=True,
            refresh_per_second=4,
            redirect_stdout=False,
            expand=True,
        )

    def begin(self, plan: dict[str, Any]) -> None:
        """Show the rows, at the step where the run starts or goes on."""
        self._steps = plan["evaluation_steps"]
        self._total = self.add_task("total", total=max(1, plan["max_steps"]), count="")
        self._next = self.add_task("next checkpoint", total=1, count="")
        self.at_step(plan["step"])

    def preparing(self, share: float | None, text: str) -> None:
        """The first row while data are prepared, before there is a plan."""
        if not self.task_ids:
            self.add_task("preparing data", total=1.0, count="")
        self.update(self.task_ids[0], completed=share or 0.0, count=text)

    def prepared(self) -> None:
        """Take that row away."""
        for task in self.task_ids:
            self.remove_task(task)

    def at_step(self, step: int) -> None:
        """Move both rows."""
        total = int(self.tasks[0].total or 1)
        self.update(self._total, completed=step, count=f"{step:,}/{total:,}")
        before = max((at for at in self._steps if at <= step), default=0)
        after = min((at for at in self._steps if at > step), default=total)
        gap, done = max(1, after - before), step - before
        self.update(self._next, description="next checkpoint", total=gap, completed=done, count=f"{done:,}/{gap:,}")

    def busy(self, what: str, share: float) -> None:
        """The second row while something else than training is done."""
        self.update(self._next, description=what, total=1.0, completed=share, count="")

    def show(self, event: dict[str, Any]) -> None:
        """The vital figures of a logged step; the loss is averaged over the recent ones."""
        loss = float(event["loss"])
        if math.isfinite(loss):
            self._loss = _SMOOTHING * self._loss + (1 - _SMOOTHING) * loss
            self._weight = _SMOOTHING * self._weight + (1 - _SMOOTHING)  # below 1 while there is little to average
        smoothed = self._loss / self._weight if self._weight else math.nan
        self._figures = [
            f"loss {loss:.3f} ({smoothed:.3f} smoothed)", f"ppl {perplexity(event['ppl'])}",
            f"lr {event['lr']:.1e}", speed(event["tokens_per_second"]), f"gnorm {event['grad_norm']:.2f}", *_gpu(event),
            f"ETA {finish_time(event['eta_seconds'])}",
        ]  # fmt: skip
        if event["num_skipped"]:
            self._figures.insert(1, f"{event['num_skipped']} updates skipped")
        self.at_step(event["step"])

    def get_renderables(self) -> Iterable[RenderableType]:
        """Rows, then the figures, broken between figures where the terminal is narrow."""
        yield self.make_tasks_table(self.tasks)
        if self._figures:
            yield Text("\n".join(_fill(self._figures, self.console.width)), no_wrap=True, overflow="ellipsis")


def _gpu(event: dict[str, Any]) -> list[str]:
    """`MFU 31 %` and `GPU 71 % 38/80 GB`, as far as they are known."""
    if "mfu" not in event:
        return []
    busy = f"{event['gpu_utilization']:.0%} ".replace("%", " %") if "gpu_utilization" in event else ""
    memory = f"{event['gpu_memory_used'] / 1e9:.0f}/{event['gpu_memory_total'] / 1e9:.0f} GB"
    return [f"MFU {100 * event['mfu']:.0f} %", f"GPU {busy}{memory}"]


def _fill(parts: list[str], width: int) -> list[str]:
    """Parts joined by dots, on as many lines as the width asks for."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]} · {part}"
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines
