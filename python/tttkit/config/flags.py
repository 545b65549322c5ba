"""The flags of `tttkit train` that set one configuration value each; `config.fields` has their help and types."""

from __future__ import annotations

FLAGS = {
    "window": "train.window",
    "max_steps": "train.max_steps",
    "batch_size": "train.batch_size",
    "grad_accumulation": "train.grad_accumulation",
    "global_batch": "train.global_batch",
    "parallel": "train.parallel",
    "learning_rate": "optimizer.learning_rate",
    "warmup_ratio": "optimizer.warmup_ratio",
    "weight_decay": "optimizer.weight_decay",
    "max_grad_norm": "optimizer.max_grad_norm",
    "precision": "train.precision",
    "seed": "train.seed",
    "device": "train.device",
    "threads": "train.num_threads",
    "initial_state": "train.initial_state",
    "save_every": "train.save_every",
    "keep_weights": "train.keep_weights",
    "num_eval_checkpoints": "evaluation.num_checkpoints",
    "eval_max_length": "evaluation.max_length",
    "eval_num_sequences": "evaluation.num_sequences",
    "sw_mode": "evaluation.sw_mode",
    "early_stop_patience": "early_stopping.patience",
    "early_stop_min_delta": "early_stopping.min_delta",
    "early_stop": "early_stopping.enabled",
}
"""The key that each flag sets, by the name of the flag with underscores."""

RESUME_FLAGS = (
    "max_steps", "batch_size", "grad_accumulation", "global_batch", "parallel", "learning_rate", "warmup_ratio",
    "weight_decay", "max_grad_norm", "precision", "device", "threads", "save_every", "keep_weights",
    "num_eval_checkpoints", "early_stop_patience", "early_stop_min_delta", "early_stop",
)  # fmt: skip
"""The flags that `tttkit resume` has too: values that a run may change on its way."""


def option_name(flag: str) -> str:
    """Return the spelling on the command line: `--max-steps` for `max_steps`."""
    return f"--{flag.replace('_', '-')}"
