"""The first and the last screen of `tttkit train`: the plan before the first step, the results after the last."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any

from rich.markup import escape

from tttkit_cli.views.units import duration, perplexity, size


def first_screen(plan: dict[str, Any], environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names and texts of what the run is going to do; texts are markup.

    `plan` is the trainer's event of that name, `environment` the process's variables.
    """
    steps, tokens = plan["max_steps"] - plan["step"], plan["tokens_per_step"]
    share = plan["max_steps"] * tokens / max(1, plan["train_tokens"])
    run = escape(plan["run"])
    data = f"{plan['train_tokens']:,} training and {plan['validation_tokens']:,} validation tokens"
    whole = f"{steps * tokens:,} tokens to go, {share:.2f} times the training split in all"
    rows = [
        ("model", f"{plan['model']}, {plan['num_parameters']:,} parameters, W={plan['window']}, seed {plan['seed']}"),
        ("code", _code(plan)),
        ("device", f"{plan['device']}, {plan['precision']}, {_threads(plan['num_threads'])}"),
        ("data", f"{data}, vocabulary {plan['vocab_size']:,}"),
        ("plan", f"steps {plan['step']:,} to {plan['max_steps']:,} of {tokens:,} tokens: {whole}"),
        *([("stages", _stages(plan))] if plan["stages"] else []),
        ("evaluations", _evaluations(plan)),
        ("disk", _disk(plan)),
        ("ETA", "measured from the first steps on" if steps else "nothing left to train"),
        ("writes to", f"[path]{run}[/]"),
        ("to stop", "Ctrl-C or SIGTERM saves and stops; the same command goes on from there"),
        ("to watch", f"tttkit status {escape(shlex.quote(plan['run']))} --loop"),
    ]
    return [*rows, ("terminal", _terminal(environment))]


def evaluation_line(event: dict[str, Any]) -> str:
    """An evaluation in a line for people; `event` is the trainer's."""
    summary = event["summary"]
    return (
        f"evaluation {summary['checkpoint_idx']} at step {summary['step']:,}: selection_ppl "
        f"{perplexity(summary['selection_ppl'])}{' (best)' if event['is_best'] else ''}, patience "
        f"{event['num_waiting']}/{event['patience']}, {duration(summary['eval_seconds'])}"
    )


def evaluation_fields(event: dict[str, Any]) -> str:
    """The same as `key=value`, for logs."""
    summary = event["summary"]
    return (
        f"evaluation={summary['checkpoint_idx']} step={summary['step']} "
        f"selection_ppl={summary['selection_ppl']:.2f}{' best=yes' if event['is_best'] else ''} "
        f"patience={event['num_waiting']}/{event['patience']} eval_seconds={summary['eval_seconds']:.1f}"
    )


def last_screen(plan: dict[str, Any], result: dict[str, Any], run: str, seconds: float) -> list[tuple[str, str]]:
    """Names and texts of what came out and of what to do with it; `result` is that of metadata.json."""
    path = escape(run)
    evaluated = bool(result.get("total_checkpoints_evaluated"))
    rows = []
    if plan:
        num_tokens = (result["step"] - plan["step"]) * plan["tokens_per_step"]
        rows.append(("trained", f"{num_tokens:,} tokens in {duration(seconds)}, evaluations and saves included"))
    if result.get("best_selection_ppl") is not None:
        best = f"selection_ppl {perplexity(result['best_selection_ppl'])} at evaluation {result['best_checkpoint_idx']}"
        rows.append(("best", f"{best}: [path]{path}/best_model[/]"))
    rows.append(("last", f"step {result['step']:,}: [path]{path}/final_model[/]"))
    commands = [["tttkit", "status", run]]
    if evaluated:
        commands += [["tttkit", "plot", run], ["tttkit", "eval", "checkpoint", f"{run}/best_model"]]
    return [*rows, ("next", "\n".join(escape(shlex.join(command)) for command in commands))]


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _code(plan: dict[str, Any]) -> str:
    """Version and, of a checkout, its commit; `-dirty` is git's mark of changes that are not committed."""
    commit = plan["git_commit"]
    if commit is None:
        return f"tttkit {plan['version']}"
    dirty = commit.endswith("-dirty")
    text = f"tttkit {plan['version']}, commit {escape(commit.removesuffix('-dirty'))}"
    return f"{text}, [warning]with changes that are not committed[/]" if dirty else text


def _stages(plan: dict[str, Any]) -> str:
    firsts = [stage["first_step"] for stage in plan["stages"]]
    lasts = [*(first - 1 for first in firsts[1:]), plan["max_steps"]]
    return ", ".join(
        f"{stage['num_windows']:,} x W={stage['window']:,} to step {last:,}"
        for stage, last in zip(plan["stages"], lasts, strict=True)
    )


def _evaluations(plan: dict[str, Any]) -> str:
    steps, ahead = plan["evaluation_steps"], plan["num_evaluations_ahead"]
    if not steps:
        return "none"
    done = f" ({len(steps) - ahead} done)" if ahead < len(steps) else ""
    length = plan["eval_max_length"]
    each = f"{plan['eval_num_sequences']} sequences of {length:,} tokens = {length / plan['window']:.3g} x W"
    return f"{ahead} to come{done}, each on {each}"


def _disk(plan: dict[str, Any]) -> str:
    planned, free = plan["planned_bytes"], plan["free_bytes"]
    text = f"up to {size(planned)} planned (a resumable state is {size(plan['state_bytes'])}), {size(free)} free"
    return text if planned < free else f"[warning]{text}: too little; training goes on while saves fail[/]"


def _terminal(environment: Mapping[str, str]) -> str:
    """What a lost connection would do."""
    for variable, name in (("TMUX", "tmux"), ("STY", "screen")):
        if environment.get(variable):
            return f"in {name}; safe to detach"
    if environment.get("SLURM_JOB_ID"):
        return f"in SLURM job {environment['SLURM_JOB_ID']}; its SIGTERM saves and stops"
    where = "not in tmux" if os.isatty(2) else "no terminal"
    return f"{where}; safe anyway: a lost connection does not end the run"
