"""Untrained models of transformers of the size of one of ours, to compare speed with; nothing is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tttkit.models.hugging_face.checks import find_traits
from tttkit.models.hugging_face.model import HuggingFaceModel
from tttkit.models.hugging_face.package import import_transformers, quiet
from tttkit.models.hugging_face.tokens import Bos

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig

_MAMBA_HEAD = 64
_CHUNK = 64
"""Tokens of a chunk of Mamba-2. The values do not depend on it, and the PyTorch code needs much memory for 256."""


def models_of_same_size(config: ModelConfig, num_parameters: int, num_positions: int) -> dict[str, HuggingFaceModel]:
    """Return a GPT-2 and a Mamba-2 with random weights, by name, on the CPU and in evaluation mode.

    They have the width and the vocabulary of `config`. GPT-2 has its layers too and makes up the number of parameters
    by the width of the feed-forward layers, positions aside; Mamba-2 does so by the number of layers. Raises UsageError
    if transformers is missing.
    """
    transformers = import_transformers()
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        configs = {
            "GPT-2": _gpt2(transformers, config, num_parameters, num_positions),
            "Mamba-2": _mamba2(transformers, config, num_parameters),
        }
        return {
            f"{name} of transformers": _built(transformers, each, num_positions if name == "GPT-2" else None)
            for name, each in configs.items()
        }


def module_of_same_kind(config: ModelConfig, num_parameters: int) -> tuple[str, torch.nn.Module] | None:
    """Return the name of an untrained model of transformers of the kind and size of one of ours, and the model.

    None if transformers has no model of the kind. Raises UsageError if transformers is missing.
    """
    kinds = {"gated-deltanet": ("Qwen3-Next", _qwen3_next), "mamba2": ("Mamba-2", _mamba2)}
    if config.architecture not in kinds:
        return None
    name, configured = kinds[config.architecture]
    transformers = import_transformers()
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = transformers.AutoModelForCausalLM.from_config(configured(transformers, config, num_parameters))
    return f"{name} of transformers", built


def _qwen3_next(transformers: Any, config: ModelConfig, num_parameters: int) -> Any:
    """Qwen3-Next with Gated DeltaNet in every layer and without experts."""
    key, value = config.memory_head_dims

    def sized(inner: int) -> Any:
        return transformers.Qwen3NextConfig(
            vocab_size=config.vocab_size, hidden_size=config.hidden_size, intermediate_size=inner,
            num_hidden_layers=config.num_hidden_layers, num_attention_heads=config.num_attention_heads,
            layer_types=["linear_attention"] * config.num_hidden_layers,
            mlp_only_layers=list(range(config.num_hidden_layers)),
            linear_num_key_heads=config.num_key_heads or config.num_attention_heads,
            linear_num_value_heads=config.num_attention_heads, linear_key_head_dim=key, linear_value_head_dim=value,
            linear_conv_kernel_dim=config.conv_kernel, tie_word_embeddings=config.tie_word_embeddings,
        )  # fmt: skip

    return sized(_solved(transformers, sized, config.hidden_size, num_parameters))


def _gpt2(transformers: Any, config: ModelConfig, num_parameters: int, num_positions: int) -> Any:
    def sized(inner: int) -> Any:
        return transformers.GPT2Config(
            vocab_size=config.vocab_size, n_embd=config.hidden_size, n_layer=config.num_hidden_layers,
            n_head=config.num_attention_heads, n_inner=inner, n_positions=num_positions,
            tie_word_embeddings=config.tie_word_embeddings,
        )  # fmt: skip

    wanted = num_parameters + num_positions * config.hidden_size
    return sized(_solved(transformers, sized, config.hidden_size, wanted))


def _mamba2(transformers: Any, config: ModelConfig, num_parameters: int) -> Any:
    inner = 2 * config.hidden_size
    head = _MAMBA_HEAD if inner % _MAMBA_HEAD == 0 else config.head_dim

    def sized(num_layers: int) -> Any:
        return transformers.Mamba2Config(
            vocab_size=config.vocab_size, hidden_size=config.hidden_size, num_hidden_layers=num_layers, head_dim=head,
            num_heads=inner // head, n_groups=1, chunk_size=_CHUNK, tie_word_embeddings=config.tie_word_embeddings,
        )  # fmt: skip

    return sized(_solved(transformers, sized, 1, num_parameters))


def _solved(transformers: Any, sized: Any, unit: int, num_parameters: int) -> int:
    """Return the size at which the number of parameters, which grows linearly with it, is nearest to the wanted one."""
    one, two = (_num_parameters(transformers, sized(count * unit)) for count in (1, 2))
    return max(1, round(unit * (1 + (num_parameters - one) / (two - one))))


def _num_parameters(transformers: Any, config: Any) -> int:
    with torch.device("meta"):
        module = transformers.AutoModelForCausalLM.from_config(config)
    return sum(each.numel() for each in module.parameters())


def _built(transformers: Any, config: Any, positions: int | None) -> HuggingFaceModel:
    module = transformers.AutoModelForCausalLM.from_config(config).eval()
    traits = find_traits(module, name=config.model_type, trained_positions=positions)
    bos = Bos(id=None, is_added=False)
    return HuggingFaceModel(
        module, traits, name=config.model_type, bos=bos, weights_sha256="", trained_positions=positions
    )
