"""Checks before training: the configuration against the data and the earlier run, and the free disk space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tttkit.config.layers import difference, merge
from tttkit.config.old_names import with_present_names
from tttkit.config.resolve import Facts, resolve_config
from tttkit.config.run import Config, build_config
from tttkit.data.split import Split
from tttkit.device import find_device
from tttkit.errors import DataError, DiskFullError, UsageError
from tttkit.run.directory import SCHEMA_VERSION, RunDirectory
from tttkit.train.batches.curriculum import stages_of
from tttkit.train.events import Plan
from tttkit.train.options import RunOptions

_FREE_KEYS = {
    "data.io",
    "train.save_every",
    "train.log_every",
    "train.inner_loss_every",
    "train.keep_weights",
    "train.num_threads",
}
"""Keys that may change when a run is resumed, because they do not change the results (threads are recorded)."""


def resolve(config: Config, vocab_size: int) -> Config:
    """Fill in the values that depend on data and machine: vocabulary, device, precision. Raises UsageError."""
    return resolve_config(config, Facts(vocab_size=vocab_size, device=find_device(config.train.device)))


def check_splits(config: Config, splits: dict[str, Split]) -> None:
    """Refuse data too short for a window or for the evaluation. Raises DataError, or UsageError naming the maximum."""
    length = config.evaluation.max_length
    longest = max(stage.window for stage in stages_of(config.train))
    for name, split in splits.items():
        window = longest if name == "train" else config.train.window
        if split.num_tokens < window + 1:
            raise DataError(
                f"the {name} split has {split.num_tokens} tokens, but one window of W={window} needs {window + 1}"
            )
    if config.evaluation.num_checkpoints == 0:
        return
    num_tokens = splits["validation"].num_tokens
    most = num_tokens // (length + 1)
    if most == 0:
        raise DataError(
            f"the validation split has {num_tokens} tokens, but one sequence of T={length} needs {length + 1}",
            hint="lower --eval-max-length, or prepare more validation text",
        )
    if config.evaluation.num_sequences > most:
        raise UsageError(
            f"evaluation.num_sequences is {config.evaluation.num_sequences}, but the validation split holds "
            f"{most} disjoint sequences of T={length}",
            hint=f"--eval-num-sequences {most}",
        )


def refuse_old_version(old: dict[str, Any], run: RunDirectory) -> None:
    """Refuse to resume an unfinished run whose metadata.json has an older schema. Raises UsageError."""
    if old.get("schema_version", 1) >= SCHEMA_VERSION:
        return
    version = old.get("environment", {}).get("tttkit", "of an earlier version")
    raise UsageError(
        f"{run.path} is an unfinished run of tttkit {version}, which this version cannot resume",
        hint=f"finish it with tttkit {version}, or start over with another --out",
    )


def refuse_other_config(old: dict[str, Any], config: Config, run: RunDirectory, options: RunOptions) -> list[str]:
    """Refuse to resume with another configuration or world size than the run was started with.

    Returns the differences that `options.allow_change` names. Raises UsageError naming the others.
    """
    if "data" not in old:
        return []  # the run ended before its data was known, so it trained nothing
    defaults = build_config({}).to_dict()  # for keys that did not exist when the run was started
    before, now = (
        {**merge(defaults, with_present_names(old["config"])), "world_size": old.get("world_size", 1)},
        {**config.to_dict(), "world_size": 1},
    )
    changed = {line.partition(":")[0]: line for line in difference(before, now)}
    refused = [line for key, line in changed.items() if key not in _FREE_KEYS | options.allow_change]
    if refused:
        raise UsageError(
            f"{run.path} holds a run with another configuration: {'; '.join(refused)}",
            hint="pass the options of that run to resume it, choose another --out, or pass --allow-change KEY for each",
        )
    return [line for key, line in changed.items() if key in options.allow_change]


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
            hint="choose another --out, or pass --allow-data-change to resume with the new data",
        )
    return [line]


def check_disk(run: RunDirectory, plan: Plan) -> str | None:
    """Compare what the run will write with the free space. Returns a warning if it may not be enough.

    Raises DiskFullError if not even the first training checkpoint and model fit.
    """
    there = sum(_bytes_of(path) for path in (run.states, run.best_model, run.final_model))
    free, first = plan.free_bytes + there, 4 * plan.state_bytes // 3
    if there == 0 and free < first:
        raise DiskFullError(
            f"{run.path} has {_megabytes(free)} free, but the first training checkpoint and model take "
            f"{_megabytes(first)}",
            hint="free space, or choose an --out on another disk",
        )
    if free < plan.planned_bytes:
        return (
            f"the run will need {_megabytes(plan.planned_bytes)}, but only {_megabytes(free)} is free; when the disk "
            f"is full, training continues in memory and waits for space"
        )
    return None


def _bytes_of(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
