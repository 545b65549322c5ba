"""How the configuration may change when a run resumes: what is refused, what is allowed, and what follows from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from tttkit.config.layers import difference, merge
from tttkit.config.old_names import with_present_names
from tttkit.config.run import Config, build_config
from tttkit.data.split import Split
from tttkit.errors import UsageError
from tttkit.run.directory import SCHEMA_VERSION, RunDirectory
from tttkit.run.saved import newest_saved_step
from tttkit.run.world import ONE_PROCESS, World
from tttkit.train.options import RunOptions
from tttkit.train.schedule import learning_rate

if TYPE_CHECKING:
    from tttkit.train.trainer import Trainer

_FREE_KEYS = {
    "data.io",
    "train.save_every",
    "train.log_every",
    "train.inner_loss_every",
    "train.keep_weights",
    "train.num_threads",
    "train.rank_timeout",
}
"""Keys that may change when a run is resumed, because they do not change the results (threads are recorded)."""


def refuse_old_version(old: dict[str, Any], run: RunDirectory) -> None:
    """Refuse to resume an unfinished run whose metadata.json has an older schema. Raises UsageError."""
    if old.get("schema_version", 1) >= SCHEMA_VERSION:
        return
    version = old.get("environment", {}).get("tttkit", "of an earlier version")
    raise UsageError(
        f"{run.path} is an unfinished run of tttkit {version}, which this version cannot resume",
        hint=f"finish it with tttkit {version}, or start over with another --out",
    )


def refuse_other_config(
    old: dict[str, Any], config: Config, run: RunDirectory, options: RunOptions, world: World = ONE_PROCESS
) -> list[str]:
    """Refuse to resume with another configuration than the run was started with.

    The number of ranks may change if an update keeps its windows. Returns the differences that this or
    `options.allow_change` allows. Raises UsageError naming the others.
    """
    if "data" not in old:
        return []  # the run ended before its data was known, so it trained nothing
    defaults = build_config({}).to_dict()  # for keys that did not exist when the run was started
    before, now = (
        {**merge(defaults, with_present_names(old["config"])), "world_size": old.get("world_size", 1)},
        {**config.to_dict(), "world_size": world.size},
    )
    allowed = _FREE_KEYS | options.allow_change
    messages = []
    if before["world_size"] != world.size and _tokens_per_step(before) == config.train.tokens_per_step:
        allowed |= {"world_size", "train.global_batch"}
        messages = [f"world_size: {before['world_size']} -> {world.size}"]
    if config.data.path is not None:  # whatever the path, the fingerprint tells whether the data are the same
        before["data"] = now["data"]
    changed = {line.partition(":")[0]: line for line in difference(before, now)}
    refused = {key: line for key, line in changed.items() if key not in allowed}
    if refused:
        raise UsageError(
            f"{run.path} holds a run with another configuration: {'; '.join(refused.values())}",
            hint=_ways(refused.keys(), run, config),
        )
    return [line for key, line in changed.items() if key in options.allow_change and line not in messages] + messages


def _tokens_per_step(values: dict[str, Any]) -> int:
    """Return the tokens of an update of all ranks by recorded values."""
    train = build_config({key: values[key] for key in values if key != "world_size"}).train
    return train.tokens_per_step * (1 if train.global_batch is not None else int(values["world_size"]))


def refuse_other_data(
    old: dict[str, Any], splits: dict[str, Split], run: RunDirectory, options: RunOptions
) -> list[str]:
    """Refuse to resume with other data than the run was started with. Returns and raises as `refuse_other_config`."""
    fingerprint = splits["train"].fingerprint
    if "data" not in old or old["data"]["fingerprint"] == fingerprint:
        return []
    line = f"data fingerprint: {old['data']['fingerprint'][:12]} -> {fingerprint[:12]}"
    if not options.allow_data_change:
        raise UsageError(
            f"{run.path} was started on other data: {line}",
            hint="name the data of the run with --data, choose another --out, or pass --allow-data-change",
        )
    return [line]


def end_no_earlier(config: Config, run: RunDirectory) -> tuple[Config, list[str]]:
    """Return the configuration with no fewer steps than the run has done, and a message if that changes it."""
    done = newest_saved_step(run) or 0
    if config.train.max_steps >= done:
        return config, []
    train = dataclasses.replace(config.train, max_steps=done)
    asked = f"train.max_steps is {config.train.max_steps}"
    message = f"{asked}, but {done} steps are done already, so the run ends at step {done}"
    return dataclasses.replace(config, train=train), [message]


def refuse_to_train_nothing(trainer: Trainer, accepted: list[str]) -> None:
    """Refuse to change a run that has ended if it would end at once again. Raises UsageError."""
    run, step = trainer.run_directory, trainer.progress.step
    if not trainer.state.is_saved:
        raise UsageError(
            f"{run.path} has ended and has no training checkpoint to continue from",
            hint="restore its folder state/, or start another run with another --out",
        )
    reason = trainer.end_reason()
    if reason is None:
        return
    more = f"`tttkit resume {run.argument} --max-steps N` with N above {step} continues it"
    if reason == "early-stopped":
        more = f"`tttkit resume {run.argument} --no-early-stop` continues it"
    raise UsageError(
        f"{run.path} is {reason} at step {step}, so these changes would train nothing: {'; '.join(accepted)}",
        hint=f"{more}; another --out starts anew",
    )


def learning_rate_change(before: dict[str, Any], trainer: Trainer) -> list[str]:
    """Return a message if the next update has another learning rate than by the configuration `before`."""
    step, config = trainer.progress.step + 1, trainer.config
    if step > config.train.max_steps or config.optimizer.continued_at == step - 1:
        return []  # there is no next update, or `extend` has described its learning rate
    earlier = build_config(before)
    was = learning_rate(min(step, earlier.train.max_steps), earlier.optimizer, max_steps=earlier.train.max_steps)
    now = learning_rate(step, config.optimizer, max_steps=config.train.max_steps)
    if was == now:
        return []
    return [f"the learning rate of step {step} follows the new schedule: {now:.3g} in place of {was:.3g}"]


def _ways(keys: Collection[str], run: RunDirectory, config: Config) -> str:
    """Return the hint for refused changes: the ways to go on."""
    steps = config.train.max_steps if "train.max_steps" in keys else "N"
    ranks = "--global-batch N keeps the windows of an update on any number of ranks; or "
    return (
        f"{ranks if 'train.global_batch' in keys else ''}pass the options of that run to resume it, choose another "
        f"--out, or go on from it in one of three ways: `tttkit resume {run.argument} --max-steps {steps}` or --extend "
        f"trains it for another number of steps, --branch-from {run.argument}@STEP starts a new run with its weights "
        f"and its optimizer, and --init-from {run.argument} starts one with its weights only; --allow-change KEY "
        "changes a value of this run"
    )
