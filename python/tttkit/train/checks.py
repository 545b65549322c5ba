"""Checks before training: the configuration against the data, and the free disk space."""

from __future__ import annotations

from pathlib import Path

import torch

from tttkit.config.resolve import Facts, resolve_config
from tttkit.config.run import Config
from tttkit.data.split import Split
from tttkit.device import find_device
from tttkit.errors import DataError, DeviceMemoryError, DiskFullError, UsageError
from tttkit.evaluate.memory import available_bytes
from tttkit.run.directory import RunDirectory
from tttkit.train.batches.curriculum import stages_of
from tttkit.train.events import Plan

_CPU = torch.device("cpu")
_BYTES_PER_WEIGHT = 16
"""A float32 weight, its gradient and both moments."""
_BYTES_PER_ID = 8


def resolve(config: Config, vocab_size: int, num_ranks: int = 1) -> Config:
    """Fill in the values that depend on data, machine and ranks: vocabulary, device, precision, global batch.

    Raises UsageError.
    """
    device = find_device(config.train.device)
    return resolve_config(config, Facts(vocab_size=vocab_size, device=device, num_ranks=num_ranks))


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


def check_memory(config: Config) -> None:
    """Refuse a model or a batch that cannot fit in the free memory, before anything of that size is made.

    What is compared is the least that any such run needs: embedding and feed-forward weights with gradients and both
    moments, and the token ids of one update. Raises DeviceMemoryError.
    """
    model, device = config.model, torch.device(config.train.device or "cpu")
    num_weights = model.vocab_size * model.hidden_size
    num_weights += model.num_hidden_layers * model.hidden_size * model.intermediate_size
    for what, needed, where in (
        (f"a model of at least {num_weights:,} parameters", _BYTES_PER_WEIGHT * num_weights, device),
        (f"an update of {config.train.tokens_per_step:,} tokens", _BYTES_PER_ID * config.train.tokens_per_step, _CPU),
    ):
        free = available_bytes(where)
        if needed > free:
            raise DeviceMemoryError(
                f"{what} takes at least {needed / 1e9:,.1f} GB, but {free / 1e9:,.1f} GB of memory is free on {where}",
                hint="choose smaller sizes, or another device",
            )


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
