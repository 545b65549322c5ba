"""The one list of architectures: a new model is one file with a `SequenceLayer` and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tttkit.models.language_model import LanguageModel
from tttkit.models.sliding_window import SlidingWindowAttention
from tttkit.models.transformer import CausalAttention
from tttkit.models.ttt import TTTLayer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tttkit.config.model import ModelConfig
    from tttkit.models.layers import SequenceLayer

SEQUENCE_LAYERS: dict[str, Callable[[ModelConfig], SequenceLayer]] = {
    "ttt": TTTLayer,
    "sw": SlidingWindowAttention,
    "transformer": CausalAttention,
}


def build_model(config: ModelConfig, *, seed: int | None = None) -> LanguageModel:
    """A freshly initialised model in float32 on the default device.

    Weights come from torch's generator; with `seed` they depend on the seed alone and that generator stays untouched.
    Raises ValueError for a `vocab_size` of 0, which a run takes from its data before it builds its model.
    """
    if config.vocab_size < 1:
        raise ValueError(f"a model needs a vocab_size of at least 1, got {config.vocab_size}")
    layer = SEQUENCE_LAYERS[config.architecture]
    if seed is None:
        return LanguageModel(config, layer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LanguageModel(config, layer)
