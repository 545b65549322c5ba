"""The first and the last screen of `tttkit train`: the plan before the first step, and the results after the last."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape

from tttkit.results.summary import SELECTION_KEY
from tttkit.run.directory import quoted
from tttkit.run.threads import describe_threads
from tttkit.train.events import Evaluated, Plan
from tttkit_cli.views.units import duration, perplexity, size


def first_screen(plan: Plan, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return names and texts (markup) of the plan. `environment` are the variables of the process."""
    return [
        ("model", f"{plan.model}, {plan.num_parameters:,} parameters, W={plan.window}, seed {plan.seed}"),
        ("code", _code(plan)),
        ("device", f"{plan.device}, {plan.precision}, {describe_threads(plan.threads)}"),
        ("data", _data(plan)),
        ("plan", _steps(plan)),
        *([("stages", _stages(plan))] if plan.stages else []),
        ("evaluations", _evaluations(plan)),
        ("disk", _disk(plan)),
        ("ETA", "known after the first steps" if plan.step < plan.max_steps else "nothing left to train"),
        ("writes to", f"[path]{escape(plan.run)}[/]"),
        ("to stop", "Ctrl-C or SIGTERM saves and stops; the same command resumes"),
        ("to watch", f"tttkit status {escape(quoted(Path(plan.run)))} --loop"),
        ("terminal", _terminal(environment)),
    ]


def evaluation_line(event: Evaluated) -> str:
    """Return an evaluation as one line of text."""
    summary = event.summary
    return (
        f"evaluation {summary.index} at step {summary.step:,}: selection_ppl "
        f"{perplexity(summary.get(SELECTION_KEY))}{' (best)' if event.is_best else ''}, patience "
        f"{event.num_waiting}/{event.patience}, {duration(summary.get('eval_seconds'))}"
    )


def evaluation_fields(event: Evaluated) -> str:
    """Return an evaluation as `key=value` fields, for logs."""
    summary = event.summary
    return (
        f"evaluation={summary.index} step={summary.step} "
        f"selection_ppl={summary.get(SELECTION_KEY):.2f}{' best=yes' if event.is_best else ''} "
        f"patience={event.num_waiting}/{event.patience} eval_seconds={summary.get('eval_seconds'):.1f}"
    )


def last_screen(plan: Plan | None, result: dict[str, Any], run: str, seconds: float) -> list[tuple[str, str]]:
    """Return names and texts (markup) of the results and of the next commands.

    `result` comes from metadata.json; `plan` is None if the run had ended before.
    """
    path = escape(run)
    rows = []
    if plan is not None:
        num_tokens = result["tokens_seen"] - plan.tokens_seen
        rows.append(("trained", f"{num_tokens:,} tokens in {duration(seconds)}, including evaluations and saves"))
    if result.get("best_selection_ppl") is not None:
        best = f"selection_ppl {perplexity(result['best_selection_ppl'])} at evaluation {result['best_checkpoint_idx']}"
        rows.append(("best", f"{best}: [path]{path}/best_model[/]"))
    rows.append(("last", f"step {result['step']:,}: [path]{path}/final_model[/]"))
    commands = [f"tttkit status {quoted(Path(run))}"]
    if result.get("total_checkpoints_evaluated"):
        commands += [f"tttkit plot {quoted(Path(run))}", f"tttkit eval checkpoint {quoted(Path(run) / 'best_model')}"]
    return [*rows, ("next", escape("\n".join(commands)))]


def _code(plan: Plan) -> str:
    """Return the version and, for a checkout, its commit. Git appends `-dirty` if there are uncommitted changes."""
    if plan.git_commit is None:
        return f"tttkit {plan.version}"
    text = f"tttkit {plan.version}, commit {escape(plan.git_commit.removesuffix('-dirty'))}"
    return f"{text}, [warning]with uncommitted changes[/]" if plan.git_commit.endswith("-dirty") else text


def _data(plan: Plan) -> str:
    tokens = f"{plan.train_tokens:,} training and {plan.validation_tokens:,} validation tokens"
    return f"{tokens}, vocabulary {plan.vocab_size:,}"


def _steps(plan: Plan) -> str:
    remaining = (plan.max_steps - plan.step) * plan.tokens_per_step
    epochs = (plan.tokens_seen + remaining) / max(1, plan.train_tokens)
    return (
        f"steps {plan.step:,} to {plan.max_steps:,} of {plan.tokens_per_step:,} tokens: {remaining:,} tokens to go, "
        f"{epochs:.2f} epochs in total"
    )


def _stages(plan: Plan) -> str:
    firsts = [stage.first_step for stage in plan.stages]
    lasts = [*(first - 1 for first in firsts[1:]), plan.max_steps]
    return ", ".join(
        f"{stage.num_windows:,} x W={stage.window:,} to step {last:,}"
        for stage, last in zip(plan.stages, lasts, strict=True)
    )


def _evaluations(plan: Plan) -> str:
    done, ahead = plan.num_evaluations_done, plan.num_evaluations_ahead
    if not plan.evaluation_steps:
        return "none"
    length = plan.eval_max_length
    each = f"{plan.eval_num_sequences} sequences of {length:,} tokens = {length / plan.window:.3g} x W"
    return f"{ahead} to come{f' ({done} done)' if done else ''}, each on {each}"


def _disk(plan: Plan) -> str:
    text = (
        f"at most {size(plan.planned_bytes)} (a training checkpoint is {size(plan.state_bytes)}), "
        f"{size(plan.free_bytes)} free"
    )
    if plan.planned_bytes < plan.free_bytes:
        return text
    return f"[warning]{text}: not enough; training continues while saves fail[/]"


def _terminal(environment: Mapping[str, str]) -> str:
    """Say what a lost connection would do."""
    for variable, name in (("TMUX", "tmux"), ("STY", "screen")):
        if environment.get(variable):
            return f"in {name}; safe to detach"
    if environment.get("SLURM_JOB_ID"):
        return f"in SLURM job {environment['SLURM_JOB_ID']}; its SIGTERM saves and stops"
    where = "not in tmux" if os.isatty(2) else "no terminal"
    return f"{where}; safe anyway: a lost connection does not end the run"
