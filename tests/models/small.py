"""Small models with every parameter perturbed, shared by the tests of this folder."""

from __future__ import annotations

import torch

from tttkit.models import LanguageModel, ModelConfig, build_model

VARIANTS = {
    "linear": {},
    "mlp": {"ttt_layer_type": "mlp"},
    "linear-gate": {"use_gate": True},
    "linear-conv": {"share_qk": True, "pre_conv": True},
    "linear-decay": {"inner_decay": "token"},
    "mlp-decay": {"ttt_layer_type": "mlp", "inner_decay": "head", "use_gate": True},
    "linear-momentum": {"inner_momentum": 0.6, "inner_rescale": True, "inner_lr_decay": 0.5},
    "mlp-momentum": {"ttt_layer_type": "mlp", "inner_momentum": 0.3, "inner_rescale": True, "inner_decay": "token"},
    "mlp-all": {"ttt_layer_type": "mlp", "use_gate": True, "share_qk": True, "pre_conv": True},
}
MEMORIES = {
    "gated-deltanet": {"architecture": "gated-deltanet", "num_key_heads": 1},
    "deltanet": {"architecture": "deltanet"},
    "mamba2": {"architecture": "mamba2", "num_groups": 2, "state_size": 5},
    "mamba2-conv": {"architecture": "mamba2", "state_size": 5, "pre_conv": True},
    "lact": {"architecture": "lact", "fast_heads": 2, "fast_momentum": False},
    "lact-all": {
        "architecture": "lact",
        "fast_heads": 2,
        "fast_muon": True,
        "fast_rank": 3,
        "fast_width": 1.5,
        "sink": "tokens",
    },
    "titans": {"architecture": "titans"},
    "rwkv7": {"architecture": "rwkv7"},
}
HYBRIDS = {
    "ttt-hybrid": {"pattern": ["ttt-linear", "sw"], "inner_decay": "token"},
    "gdn-hybrid": {"pattern": ["gated-deltanet", "sw"], "num_key_heads": 1},
    "four-kinds": {
        "pattern": ["ttt-mlp", "sw", "lact", "mamba2"],
        "sink": "logit",
        "fast_heads": 2,
        "num_hidden_layers": 4,
    },
    "attention-hybrid": {"pattern": ["ttt-linear", "transformer"], "use_gate": True, "pre_conv": True},
}
WINDOWS = {
    "sw": {"architecture": "sw"},
    "sw-sinks": {"architecture": "sw", "sink": "tokens", "num_sinks": 3, "sliding_window": 4},
    "sw-logit": {"architecture": "sw", "sink": "logit"},
    "hybrid-sinks": {"pattern": ["mamba2", "sw"], "sink": "tokens", "num_sinks": 1, "sliding_window": 4},
}
PARALLEL = {
    "ttt-parallel": {"parallel_window": True, "sink": "tokens", "num_sinks": 2, "sliding_window": 5},
    "rwkv7-parallel": {"architecture": "rwkv7", "parallel_window": True, "pre_conv": True},
    "hybrid-parallel": {"pattern": ["gated-deltanet", "sw"], "parallel_window": True, "sink": "logit"},
}
ARCHITECTURES = {
    **VARIANTS,
    "transformer": {"architecture": "transformer"},
    **WINDOWS,
    **MEMORIES,
    **HYBRIDS,
    **PARALLEL,
}
VOCAB_SIZE = 61


def small_config(**fields) -> ModelConfig:
    sizes = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mini_batch_size": 4,
        "sliding_window": 6,
    }
    return ModelConfig(**{**sizes, **fields})


def small_model(*, seed: int = 0, scale: float = 0.2, **fields) -> LanguageModel:
    """Build a model without special values such as 0 or 1, so a test notices if a parameter is not used."""
    model = build_model(small_config(**fields), seed=seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def random_ids(batch: int, length: int, *, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCAB_SIZE, (batch, length), generator=torch.Generator().manual_seed(seed))


def exact_model(**fields) -> LanguageModel:
    """Build `small_model`; a memory is in float64, where the order of operations does not show."""
    model = small_model(**fields)
    memories = {fields["architecture"] for fields in MEMORIES.values()}
    return model.double() if fields.get("architecture") in memories else model


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare results of the same computation in another order."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 if actual.dtype == torch.float32 else 1e-9)
