"""Refuse the configuration of a model whose fields do not fit together. Every function raises ValueError."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tttkit.config.limits import MOST_LAYERS, MOST_TOKENS

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig

WITHOUT_MEMORY = ("sw", "transformer")
"""Architectures whose layers have no memory."""
_MOST_POWER = 4
_AT_LEAST_ONE = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "mini_batch_size", "conv_kernel",
    "sliding_window", "num_sinks", "decay_window", "state_size", "num_groups", "fast_heads",
)  # fmt: skip


def check_model(config: ModelConfig, kinds: set[str]) -> None:
    """Check all fields of a model whose layers have the architectures `kinds`."""
    _check_sizes(config)
    _check_memory(config)
    for name, least in (("rope_theta", 1e-6), ("rms_norm_eps", 0.0), ("initializer_range", 0.0)):
        if getattr(config, name) < least:
            raise ValueError(f"model.{name} must be at least {least:g}, got {getattr(config, name)}")
    if config.sink != "none" and not config.attends_to_window:
        raise ValueError(f"model.sink is for models with a sliding window, such as sw, got {config.name}")
    if config.parallel_window and kinds <= set(WITHOUT_MEMORY):
        raise ValueError(f"model.parallel_window is for models with a memory, got {config.name}")
    if config.parallel_window and "lact" in kinds:
        raise ValueError(f"model.parallel_window is not for lact, which has a window of its own, got {config.name}")
    _check_decay(config, kinds)


def _check_sizes(config: ModelConfig) -> None:
    """Refuse sizes out of range, and a width that heads do not divide."""
    if config.vocab_size < 0:
        raise ValueError(f"model.vocab_size must be at least 0, got {config.vocab_size}")
    if config.vocab_size > MOST_TOKENS:
        raise ValueError(f"model.vocab_size must be at most {MOST_TOKENS:,}, got {config.vocab_size}")
    for name in _AT_LEAST_ONE:
        value, most = getattr(config, name), MOST_LAYERS if name == "num_hidden_layers" else MOST_TOKENS
        if value < 1:
            raise ValueError(f"model.{name} must be at least 1, got {value}")
        if value > most:
            raise ValueError(f"model.{name} must be at most {most:,}, got {value}")
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"model.hidden_size must be a multiple of model.num_attention_heads, "
            f"got {config.hidden_size} and {config.num_attention_heads}"
        )
    if config.head_dim % 2:
        raise ValueError(f"model.hidden_size / model.num_attention_heads must be even, got {config.head_dim}")


def _check_memory(config: ModelConfig) -> None:
    """Refuse heads and widths of a memory that do not fit together."""
    for name in ("num_key_heads", "key_head_dim", "value_head_dim", "fast_rank"):
        if not 0 <= getattr(config, name) <= MOST_TOKENS:
            raise ValueError(f"model.{name} must be in 0 … {MOST_TOKENS:,}, got {getattr(config, name)}")
    parts = {"num_key_heads": config.num_attention_heads, "num_groups": config.num_attention_heads}
    if config.architecture == "lact":
        parts["fast_heads"] = config.hidden_size
    for name, whole in parts.items():
        part = getattr(config, name)
        if part and whole % part:
            raise ValueError(f"model.{name} must divide {whole}, got {part}")
    if min(config.memory_head_dims) < 1 or config.fast_width * config.hidden_size < config.fast_heads:
        raise ValueError("model.hidden_size is too small for a memory of at least one number per head")


def _check_decay(config: ModelConfig, kinds: set[str]) -> None:
    """Refuse a rule of forgetting or learning that is out of range or does not fit the model."""
    if not 0 <= config.state_decay <= 1:
        raise ValueError(f"model.state_decay must be in 0 … 1, got {config.state_decay}")
    if config.learn_state_decay and not 0 < config.state_decay < 1:
        raise ValueError(f"model.state_decay must lie between 0 and 1 if it is learned, got {config.state_decay}")
    if not 0 <= config.inner_momentum < 1:
        raise ValueError(f"model.inner_momentum must be at least 0 and below 1, got {config.inner_momentum}")
    if not 0 <= config.inner_lr_decay <= _MOST_POWER:
        raise ValueError(f"model.inner_lr_decay must be in 0 … {_MOST_POWER}, got {config.inner_lr_decay}")
    for name in ("inner_decay", "inner_momentum", "inner_rescale", "inner_lr_decay"):
        if getattr(config, name) not in ("none", 0.0, False) and "ttt" not in kinds:
            raise ValueError(f"model.{name} is for ttt models, got architecture {config.architecture}")
    if not config.decays:
        return
    if "ttt" not in kinds:
        raise ValueError(f"model.state_decay is for ttt models, got architecture {config.architecture}")
    if config.decay_window % config.mini_batch_size:
        raise ValueError(
            f"model.decay_window must be a multiple of model.mini_batch_size, "
            f"got {config.decay_window} and {config.mini_batch_size}"
        )
