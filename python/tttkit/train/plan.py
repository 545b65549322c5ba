"""The event `plan`: sizes, evaluations, and the disk space that a run needs and has."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import torch

from tttkit.config.run import Config
from tttkit.train.batches.curriculum import stages_of
from tttkit.train.events import Plan
from tttkit.train.resume.checkpoint import NUM_KEPT

if TYPE_CHECKING:
    from tttkit.train.trainer import Trainer

_BYTES_PER_PARAMETER = 4
_STATE_COPIES = 3
"""A training checkpoint holds the weights and both moments of AdamW."""
_JSON_BYTES_PER_CHUNK = 400
"""Approximate size of chunk_eval.json and summary.json per chunk."""


def planned_bytes(config: Config, num_parameters: int, num_evaluations: int) -> int:
    """Return the maximum number of bytes that a run with `num_evaluations` more evaluations holds on disk at once.

    They hold the newest training checkpoints and the one being written, the best and the final model and the one being
    written, the figures of every evaluation, and its weights if `train.keep_weights` is set.
    """
    weights = _BYTES_PER_PARAMETER * num_parameters
    kept = num_evaluations if config.train.keep_weights else 0
    chunks = config.evaluation.max_length // config.evaluation.chunk_stride
    figures = num_evaluations * (chunks + 10) * _JSON_BYTES_PER_CHUNK
    num_states = NUM_KEPT + 1 + (config.optimizer.schedule == "wsd")
    return num_states * _STATE_COPIES * weights + (3 + kept) * weights + figures


def plan_event(trainer: Trainer, *, resumed: bool) -> Plan:
    """Return the event `plan` of a trainer that is ready for its first step."""
    config, step = trainer.config, trainer.progress.step
    num_parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    ahead = [at for at in trainer.schedule if at >= step and at not in trainer.progress.evaluated]
    train_split = trainer.splits["train"]
    assert config.train.device is not None
    assert config.train.precision is not None
    return Plan(
        run=str(trainer.run_directory.path),
        model=config.model.name,
        num_parameters=num_parameters,
        train_tokens=train_split.num_tokens,
        validation_tokens=trainer.splits["validation"].num_tokens,
        vocab_size=train_split.vocab_size,
        window=config.train.window,
        stages=stages_of(config.train) if config.train.stages else [],
        step=step,
        tokens_seen=trainer.progress.tokens_seen,
        max_steps=config.train.max_steps,
        tokens_per_step=config.train.tokens_per_step,
        evaluation_steps=trainer.schedule,
        num_evaluations_done=len(trainer.progress.evaluated),
        num_evaluations_ahead=len(ahead),
        eval_max_length=config.evaluation.max_length,
        eval_num_sequences=config.evaluation.num_sequences,
        device=config.train.device,
        precision=config.train.precision,
        num_threads=torch.get_num_threads(),
        threads=trainer.metadata.values["threads"],
        seed=config.train.seed,
        version=trainer.metadata.values["environment"]["tttkit"],
        git_commit=trainer.metadata.values["environment"]["git_commit"],
        resumed=resumed,
        state_bytes=_STATE_COPIES * _BYTES_PER_PARAMETER * num_parameters,
        planned_bytes=planned_bytes(config, num_parameters, len(ahead)),
        free_bytes=shutil.disk_usage(trainer.run_directory.path).free,
    )
