"""Convert layers from the parameter names and layouts of their reference implementations to ours."""

from __future__ import annotations

import torch
from torch import Tensor


def gated_deltanet_from_transformers(
    given: dict[str, Tensor], *, key_heads: int, value_heads: int
) -> dict[str, Tensor]:
    """Split the joint projections of Qwen3-Next, whose rows are grouped by key head, and its joint convolution."""
    repeats = value_heads // key_heads
    value_dim = given["norm.weight"].shape[0]
    joint = given["in_proj_qkvz.weight"]
    width = joint.shape[1]
    key_dim = joint.shape[0] // key_heads // 2 - repeats * value_dim
    sizes = [key_dim, key_dim, repeats * value_dim, repeats * value_dim]
    q, k, v, z = (part.reshape(-1, width) for part in joint.view(key_heads, -1, width).split(sizes, dim=1))
    b, a = (part.reshape(-1, width) for part in given["in_proj_ba.weight"].view(key_heads, -1, width).chunk(2, dim=1))
    convolutions = given["conv1d.weight"].split([len(q), len(k), len(v)])
    return {
        **{f"{name}_proj.weight": part for name, part in zip("qkvgba", (q, k, v, z, b, a), strict=True)},
        **{f"{name}_conv1d.weight": part for name, part in zip("qkv", convolutions, strict=True)},
        **{name: given[name] for name in ("A_log", "dt_bias")},
        "o_norm.weight": given["norm.weight"],
        "o_proj.weight": given["out_proj.weight"],
    }


def mamba2_from_transformers(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights as they are: the names are the same."""
    return dict(given)


def lact_from_authors(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of the authors' layer."""
    renamed = {
        "qkv.": "qkv_proj.", "momentum_proj.0.": "momentum_proj.", "ttt_scale_proj.": "scale_proj.",
        "ttt_norm.": "fast_norm.", "w0.w_": "w0_", "w2.w_": "w2_",
    }  # fmt: skip
    converted = {}
    for name, tensor in given.items():
        old = next((old for old in renamed if name.startswith(old)), "")
        converted[renamed.get(old, "") + name.removeprefix(old)] = tensor
    return converted


def load(layer: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy weights into a layer, all of them by name."""
    own = dict(layer.named_parameters())
    assert own.keys() == weights.keys(), own.keys() ^ weights.keys()
    with torch.no_grad():
        for name, parameter in own.items():
            assert parameter.shape == weights[name].shape, name
            parameter.copy_(weights[name])
