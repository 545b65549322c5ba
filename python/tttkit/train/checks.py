"""What is checked before a run trains: the configuration against its data, its earlier self and the free disk."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tttkit.config.layers import difference, merge
from tttkit.config.run import Config, build_config
from tttkit.data.split import Split
from tttkit.device import resolve_device
from tttkit.errors import DataError, DiskFullError, UsageError
from tttkit.run.directory import RunDirectory
from tttkit.train.batches.curriculum import stages_of
from tttkit.train.batches.initial_state import with_decay

_FREE_KEYS = {
    "data.io",
    "train.save_every",
    "train.log_every",
    "train.inner_loss_every",
    "train.keep_weights",
    "train.num_threads",
}
"""What may change between the segments of a run: it does not change what is computed (threads are recorded)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowed:
    """Differences from the earlier segments of a run that the user has named, to go on in spite of them."""

    data: bool = False
    keys: frozenset[str] = frozenset()
    """Configuration keys, `section.key`, and `world_size`."""


def resolve(config: Config, vocab_size: int, *, explicit_vocab_size: int | None = None) -> Config:
    """Fill in what depends on the data and the machine: vocabulary, device, precision. Raises UsageError."""
    if explicit_vocab_size not in (None, vocab_size):
        raise UsageError(
            f"model.vocab_size is {explicit_vocab_size}, but the data's tokenizer has {vocab_size} tokens",
            hint="leave model.vocab_size out: it is taken from DATA",
        )
    device = resolve_device(config.train.device, exact=config.train.precision == "fp32")
    precision = config.train.precision or ("bf16" if device.startswith("cuda") else "fp32")
    return dataclasses.replace(
        config,
        model=dataclasses.replace(with_decay(config), vocab_size=vocab_size, sliding_window=_sliding_window(config)),
        train=dataclasses.replace(config.train, device=device, precision=precision),
    )


def check_splits(config: Config, splits: dict[str, Split]) -> None:
    """Refuse data too short for a window or for the evaluation. Raises DataError, or UsageError naming the maximum."""
    length = config.evaluation.max_length
    longest = max(stage.window for stage in stages_of(config.train))
    for name, split in splits.items():
        window = longest if name == "train" else config.train.window
        if split.num_tokens < window + 1:
            raise DataError(
                f"the {name} split has {split.num_tokens} tokens, one window of W={window} needs {window + 1}"
            )
    if config.evaluation.num_checkpoints == 0:
        return
    num_tokens = splits["validation"].num_tokens
    most = num_tokens // (length + 1)
    if most == 0:
        raise DataError(
            f"the validation split has {num_tokens} tokens, one sequence of T={length} needs {length + 1}",
            hint="lower --eval-max-length, or prepare more validation text",
        )
    if config.evaluation.num_sequences > most:
        raise UsageError(
            f"evaluation.num_sequences is {config.evaluation.num_sequences}, the validation split holds {most} "
            f"disjoint sequences of T={length}",
            hint=f"--eval-num-sequences {most}",
        )


def refuse_other_config(old: dict[str, Any], config: Config, run: RunDirectory, allowed: Allowed) -> list[str]:
    """Refuse to go on with another config or world size than the run was started with.

    Returns the differences that were allowed by name. Raises UsageError naming the others.
    """
    if "data" not in old:
        return []  # it ended before it knew its data, so it trained nothing
    defaults = build_config({}).to_dict()  # of keys that are newer than the run
    before, now = (
        {**merge(defaults, old["config"]), "world_size": old.get("world_size", 1)},
        {**config.to_dict(), "world_size": 1},
    )
    changed = {line.partition(":")[0]: line for line in difference(before, now)}
    refused = [line for key, line in changed.items() if key not in _FREE_KEYS | allowed.keys]
    if refused:
        raise UsageError(
            f"{run.path} holds a run of another configuration: {'; '.join(refused)}",
            hint="repeat its options to go on with it, choose another --out, --allow-change KEY for each",
        )
    return [line for key, line in changed.items() if key in allowed.keys]


def refuse_other_data(old: dict[str, Any], splits: dict[str, Split], run: RunDirectory, allowed: Allowed) -> list[str]:
    """Refuse to go on with other data than the run was started with. Returns and raises as `refuse_other_config`."""
    fingerprint = splits["train"].fingerprint
    if "data" not in old or old["data"]["fingerprint"] == fingerprint:
        return []
    line = f"data fingerprint: {old['data']['fingerprint'][:12]} -> {fingerprint[:12]}"
    if not allowed.data:
        raise UsageError(
            f"{run.path} was started on other data: {line}",
            hint="choose another --out, or go on in spite of it with --allow-data-change",
        )
    return [line]


def check_disk(run: RunDirectory, plan: dict[str, Any]) -> str | None:
    """Compare what the run will write (event `plan`) with the free space; returns a warning where it may not do.

    Raises DiskFullError when not even the first state and model fit.
    """
    state, planned = plan["state_bytes"], plan["planned_bytes"]
    there = sum(_bytes_of(path) for path in (run.states, run.best_model, run.final_model))
    free = plan["free_bytes"] + there
    if there == 0 and free < 4 * state // 3:
        raise DiskFullError(
            f"{run.path} has {_megabytes(free)} free, the first state and model take {_megabytes(4 * state // 3)}",
            hint="free space, or choose an --out on another disk",
        )
    if free < planned:
        return (
            f"the run will need {_megabytes(planned)}, {_megabytes(free)} are free: when the disk is full, training "
            f"goes on from memory and waits for room"
        )
    return None


def _bytes_of(directory: Path) -> int:
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _sliding_window(config: Config) -> int:
    """The `sw` model attends over the training window."""
    return config.train.window if config.model.attends_to_window else config.model.sliding_window
