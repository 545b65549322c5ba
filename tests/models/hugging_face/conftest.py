from __future__ import annotations

import pytest
import torch

transformers = pytest.importorskip("transformers")

VOCAB_SIZE = 61


@pytest.fixture
def save_small(tmp_path):
    """`save_small(family)` writes a tiny random model of a transformers family, and returns its directory."""

    def build(family="llama", name=None, **fields):
        config_class, sizes = CONFIGS[family]
        config = getattr(transformers, config_class)(
            **{"vocab_size": VOCAB_SIZE, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None, **sizes, **fields}
        )
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        directory = tmp_path / (name or family)
        model.save_pretrained(directory)
        return directory

    return build


CONFIGS = {
    "llama": (
        "LlamaConfig",
        {
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "max_position_embeddings": 256,
        },
    ),
    "gpt2": ("GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 48}),
    "opt": (
        "OPTConfig",
        {
            "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "max_position_embeddings": 48, "word_embed_proj_dim": 16, "pad_token_id": 1,
        },
    ),
    "gptj": ("GPTJConfig", {"n_embd": 16, "n_layer": 2, "n_head": 2, "rotary_dim": 4, "n_positions": 48}),
    "mpt": ("MptConfig", {"d_model": 16, "n_heads": 2, "n_layers": 2, "max_seq_len": 48}),
    "bloom": ("BloomConfig", {"hidden_size": 16, "n_layer": 2, "n_head": 2, "seq_length": 48}),
    "mamba2": (
        "Mamba2Config",
        {
            "hidden_size": 16, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 8, "state_size": 8, "n_groups": 1,
            "chunk_size": 16, "pad_token_id": 1,
        },
    ),
    "gemma2": (
        "Gemma2Config",
        {
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 20, "final_logit_softcapping": 3.0,
        },
    ),
    "bert": (
        "BertConfig",
        {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2},
    ),
}  # fmt: skip
