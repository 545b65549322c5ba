"""The live display of `tttkit train` on a terminal: progress of the run and to the next evaluation, and key figures."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from tttkit.train.events import Plan, StepLogged
from tttkit_cli.console import err
from tttkit_cli.views.units import finish_time, perplexity, speed

_SMOOTHING = 0.9


class LiveRows(Progress):
    """Two progress rows with figures below them. They are redrawn at most four times a second and erased at the end."""

    def __init__(self) -> None:
        """Draw on the terminal of stderr; nothing is drawn before `start`."""
        self._figures: list[str] = []  # set first: the constructor of the parent class draws once
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

    def begin(self, plan: Plan) -> None:
        """Show the rows at the step where the run starts or resumes."""
        self._steps = plan.evaluation_steps
        self._total = self.add_task("total", total=max(1, plan.max_steps), count="")
        self._next = self.add_task("next evaluation", total=1, count="")
        self.at_step(plan.step)

    def preparing(self, share: float | None, text: str) -> None:
        """Show the progress of the data preparation, before there is a plan."""
        if not self.task_ids:
            self.add_task("preparing data", total=1.0, count="")
        self.update(self.task_ids[0], completed=share or 0.0, count=text)

    def prepared(self) -> None:
        """Remove the row of the data preparation."""
        for task in self.task_ids:
            self.remove_task(task)

    def at_step(self, step: int) -> None:
        """Move both rows to `step`."""
        total = int(self.tasks[0].total or 1)
        self.update(self._total, completed=step, count=f"{step:,}/{total:,}")
        before = max((at for at in self._steps if at <= step), default=0)
        after = min((at for at in self._steps if at > step), default=total)
        gap, done = max(1, after - before), step - before
        self.update(self._next, description="next evaluation", total=gap, completed=done, count=f"{done:,}/{gap:,}")

    def busy(self, what: str, share: float) -> None:
        """Show in the second row how much of `what`, an activity other than training, is done."""
        self.update(self._next, description=what, total=1.0, completed=share, count="")

    def show(self, event: StepLogged) -> None:
        """Show the figures of a logged step, with the loss also smoothed over recent logged steps."""
        if math.isfinite(event.loss):
            self._loss = _SMOOTHING * self._loss + (1 - _SMOOTHING) * event.loss
            self._weight = _SMOOTHING * self._weight + (1 - _SMOOTHING)  # corrects the bias of the first steps
        smoothed = self._loss / self._weight if self._weight else math.nan
        self._figures = [
            f"loss {event.loss:.3f} ({smoothed:.3f} smoothed)", f"ppl {perplexity(event.ppl)}",
            f"lr {event.learning_rate:.1e}", speed(event.tokens_per_second), f"gnorm {event.grad_norm:.2f}",
            *_gpu(event.utilization), f"ETA {finish_time(event.eta_seconds)}",
        ]  # fmt: skip
        if event.num_skipped:
            self._figures.insert(1, f"{event.num_skipped} updates skipped")
        self.at_step(event.step)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the rows, then the figures. On a narrow terminal a line breaks between two figures."""
        yield self.make_tasks_table(self.tasks)
        if self._figures:
            yield Text("\n".join(_fill(self._figures, self.console.width)), no_wrap=True, overflow="ellipsis")


def _gpu(figures: dict[str, float]) -> list[str]:
    """Return `MFU 31 %` and `GPU 71 % 38/80 GB`, as far as the figures are known."""
    if "mfu" not in figures:
        return []
    busy = f"{100 * figures['gpu_utilization']:.0f} % " if "gpu_utilization" in figures else ""
    memory = f"{figures['gpu_memory_used'] / 1e9:.0f}/{figures['gpu_memory_total'] / 1e9:.0f} GB"
    return [f"MFU {100 * figures['mfu']:.0f} %", f"GPU {busy}{memory}"]


def _fill(parts: list[str], width: int) -> list[str]:
    """Join parts by dots into as few lines of at most `width` characters as possible."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]} · {part}"
        if len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines
