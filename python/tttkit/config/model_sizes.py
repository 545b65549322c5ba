"""The named sizes of models: fields of `ModelConfig` that `ModelConfig.preset` sets."""

from __future__ import annotations

from typing import Any

_REFERENCE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
_OFFICIAL = {"vocab_size": 32_000, "tie_word_embeddings": True, "mini_batch_size": 16}
MODEL_SIZES: dict[str, dict[str, Any]] = {
    "ttt-125m": _REFERENCE,
    "sw-125m": {**_REFERENCE, "architecture": "sw"},
    "transformer-125m": {**_REFERENCE, "architecture": "transformer"},
    "gated-deltanet-125m": {
        **_REFERENCE, "architecture": "gated-deltanet", "num_attention_heads": 6, "intermediate_size": 2592
    },
    "deltanet-125m": {**_REFERENCE, "architecture": "deltanet"},
    "mamba2-125m": {**_REFERENCE, "architecture": "mamba2", "num_attention_heads": 24, "intermediate_size": 2496},
    "lact-125m": {**_REFERENCE, "architecture": "lact", "fast_rank": 32, "intermediate_size": 2976},
    "titans-125m": {**_REFERENCE, "architecture": "titans", "intermediate_size": 2816},
    "rwkv7-125m": {**_REFERENCE, "architecture": "rwkv7", "intermediate_size": 2912},
    "ttt-hybrid-125m": {**_REFERENCE, "pattern": ["ttt-linear", "sw"]},
    "gdn-hybrid-125m": {
        **_REFERENCE, "pattern": ["gated-deltanet", "gated-deltanet", "gated-deltanet", "sw"],
        "num_attention_heads": 6, "intermediate_size": 2720,
    },
    "official-125m": {**_OFFICIAL, **_REFERENCE, "intermediate_size": 2048},
    "official-350m": {
        **_OFFICIAL, "hidden_size": 1024, "intermediate_size": 2736, "num_hidden_layers": 24, "num_attention_heads": 16
    },
    "official-760m": {
        **_OFFICIAL, "hidden_size": 1536, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16
    },
    "official-1b": {
        **_OFFICIAL, "hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 24, "num_attention_heads": 32
    },
}  # fmt: skip
