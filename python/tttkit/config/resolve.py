"""The one rule that fills in the values that a configuration leaves open. It reads no files and has no side effects.

`train`, `train --dry-run` and `config show` all call `resolve_config`, with the facts that each of them knows.
"""

from __future__ import annotations

import dataclasses

from tttkit.config.model import ModelConfig
from tttkit.config.run import Config, TrainConfig
from tttkit.errors import UsageError

LEARNED_DECAY_START = 0.9
"""Initial value of `model.state_decay` if it is learned."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts that the data and the machine decide; None if not known yet."""

    vocab_size: int | None = None
    """Number of tokens of the data's tokenizer."""
    device: str | None = None
    """The device that the run uses: cpu, cuda or cuda:N."""
    num_ranks: int = 1
    """Number of processes that train the model together."""


def resolve_config(config: Config, facts: Facts) -> Config:
    """Return the configuration that a run uses, as far as `facts` allow; resolving it again changes nothing.

    The vocabulary comes from the data, the batch of an update from the number of ranks, the precision from the device,
    the window of attention from the training window, and the decay of the recurrent state from
    `train.initial_state_decay`. Unknown values stay as they are: `model.vocab_size` 0, `train.device` and
    `train.precision` None. Raises UsageError if the configuration names another vocabulary size than the data has, or a
    batch that the ranks cannot share evenly.
    """
    device = facts.device or config.train.device
    precision = config.train.precision
    if precision is None and device is not None:
        precision = "bf16" if device.startswith("cuda") else "fp32"
    return dataclasses.replace(
        config,
        model=_resolve_model(config, facts.vocab_size),
        train=dataclasses.replace(
            config.train,
            device=device,
            precision=precision,
            global_batch=_resolve_global_batch(config.train, facts.num_ranks),
        ),
    )


def _resolve_global_batch(train: TrainConfig, num_ranks: int) -> int | None:
    """Return the windows of an update over all ranks; None for one process that has no other number."""
    if train.global_batch is None:
        return None if num_ranks == 1 else train.batch_size * train.grad_accumulation * num_ranks
    for what, number in (("train.global_batch", train.global_batch), *_stage_batches(train)):
        if number % num_ranks:
            raise UsageError(
                f"{what} is {number} windows, which {num_ranks} ranks cannot share evenly",
                hint="choose a multiple of the number of ranks",
            )
    return train.global_batch


def _stage_batches(train: TrainConfig) -> list[tuple[str, int]]:
    return [(f"the update of train.stages[{i}]", train.tokens_per_step // s.window) for i, s in enumerate(train.stages)]


def _resolve_model(config: Config, vocab_size: int | None) -> ModelConfig:
    model = config.model
    if vocab_size is not None and model.vocab_size not in (0, vocab_size):
        raise UsageError(
            f"model.vocab_size is {model.vocab_size}, but the data's tokenizer has {vocab_size} tokens",
            hint="remove model.vocab_size: it is taken from the data",
        )
    if vocab_size is not None:
        model = dataclasses.replace(model, vocab_size=vocab_size)
    if model.attends_to_window:
        model = dataclasses.replace(model, sliding_window=config.train.window)
    decay = config.train.initial_state_decay
    if decay == 1.0:
        return model
    is_learned = decay == "learned"
    share = LEARNED_DECAY_START if isinstance(decay, str) else decay
    return dataclasses.replace(model, state_decay=share, learn_state_decay=is_learned, decay_window=config.train.window)
