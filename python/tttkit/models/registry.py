"""The one list of architectures. A new architecture needs a `SequenceLayer` and a line here (docs/extending.md)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from tttkit.models.carried_window import CarriedWindow
from tttkit.models.deltanet import DeltaNet
from tttkit.models.gated_deltanet import GatedDeltaNet
from tttkit.models.lact import LaCT
from tttkit.models.language_model import LanguageModel
from tttkit.models.mamba2 import Mamba2
from tttkit.models.parallel_window import ParallelWindow
from tttkit.models.rwkv7 import RWKV7
from tttkit.models.sliding_window import SlidingWindowAttention
from tttkit.models.titans import Titans
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
    "gated-deltanet": GatedDeltaNet,
    "deltanet": DeltaNet,
    "mamba2": Mamba2,
    "lact": LaCT,
    "titans": Titans,
    "rwkv7": RWKV7,
}


def build_model(config: ModelConfig, *, seed: int | None = None) -> LanguageModel:
    """Build a freshly initialised model in float32 on the default device.

    The weights come from torch's global generator. With `seed` they depend on the seed alone, and the global generator
    does not advance. Raises ValueError for a `vocab_size` of 0: a run must take it from its data first.
    """
    if config.vocab_size < 1:
        raise ValueError(f"a model needs a vocab_size of at least 1, got {config.vocab_size}")
    layer = partial(_build_layer, is_hybrid=bool(config.pattern))
    if seed is None:
        return LanguageModel(config, layer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LanguageModel(config, layer)


def _build_layer(config: ModelConfig, *, is_hybrid: bool) -> SequenceLayer:
    if config.architecture == "sw" and (is_hybrid or config.sink != "none"):
        return CarriedWindow(config)
    layer = SEQUENCE_LAYERS[config.architecture](config)
    return ParallelWindow(config, layer) if config.parallel_window else layer
