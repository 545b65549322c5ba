"""Random inputs of every operator and the files with reference results, shared by the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tttkit.models import operators

COMMITTED = Path(__file__).resolve().parents[2] / "golden" / "ops"
INPUTS = {
    "gated_delta_rule": ("q", "k", "v", "beta", "g"),
    "mamba2_ssd": ("x", "dt", "A", "B", "C", "D"),
    "rwkv7": ("r", "w", "k", "v", "kk", "a"),
    "titans": ("q", "k", "v", "theta", "eta", "alpha"),
    "lact": ("w0", "w1", "w2", "q", "k", "v", "lr0", "lr1", "lr2", "momentum"),
}
VARIANTS = {
    "gated_delta_rule": ("gated_delta_rule", {}),
    "deltanet": ("gated_delta_rule", {}),
    "mamba2_ssd": ("mamba2_ssd", {}),
    "rwkv7": ("rwkv7", {}),
    "titans": ("titans", {"chunk": 1}),
    "titans-chunk-3": ("titans", {"chunk": 3}),
    "titans-chunk-40": ("titans", {"chunk": 40}),
    "lact": ("lact", {"chunk": 5}),
    "lact-momentum": ("lact", {"chunk": 5}),
    "lact-muon-prenorm": ("lact", {"chunk": 5, "muon": True, "prenorm": True}),
}
"""The operator and the options of each variant that is tested."""


def golden_cases(root: Path) -> list[tuple[str, Path]]:
    return [(name, path) for name in INPUTS for path in sorted((root / name).glob("*.safetensors"))]


def read_case(path: Path, dtype: torch.dtype) -> tuple[dict[str, torch.Tensor], dict]:
    tensors = {name: tensor.to(dtype, copy=True) for name, tensor in load_file(path).items()}
    return tensors, json.loads(path.with_suffix(".json").read_text())


def options_of(name: str, facts: dict) -> dict:
    keys = {"gated_delta_rule": ("l2norm_q_k",), "titans": ("chunk",), "lact": ("chunk", "muon", "prenorm")}
    return {key: facts[key] for key in keys.get(name, ())}


def run(name: str, inputs: dict, options: dict, state=None, *, reference: bool = False):
    """Call an operator by the names of its inputs: return its output and the tensors of its state by name."""
    operator = getattr(operators, f"{name}_reference" if reference else name)
    arguments = [inputs[key] for key in INPUTS[name] if key in inputs]
    option = "state" if name == "lact" else "initial_state"
    return operator(*arguments, **options, **{option: state})


def tensors_of(state) -> dict[str, torch.Tensor]:
    if isinstance(state, dict):
        return {name: tensor for name, tensor in state.items() if name != "count"}
    return dict(zip(("state", "momentum"), state if isinstance(state, tuple) else (state,), strict=False))


def draw(variant: str, length: int, *, dtype=torch.float64, decay: float = 1.0, seed: int = 0) -> dict:
    """Draw inputs of 2 rows and 2 heads; `decay` scales the log decays."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=dtype)

    tokens = (2, length, 2)
    q, k, v = normal(*tokens, 4), normal(*tokens, 4), normal(*tokens, 3)
    unit = F.normalize(normal(*tokens, 4), dim=-1)
    # strong and weak decays in turn
    log_decay = -decay * (4 * uniform(*tokens)).exp() / 10
    if variant == "deltanet":
        return {"q": q, "k": k, "v": v, "beta": uniform(*tokens)}
    if variant == "gated_delta_rule":
        q, k = normal(2, length, 1, 4), normal(2, length, 1, 4)
        return {"q": q, "k": k, "v": v, "beta": uniform(*tokens), "g": log_decay}
    if variant == "mamba2_ssd":
        grouped = normal(2, length, 1, 4), normal(2, length, 1, 4)
        return {"x": v, "dt": -log_decay, "A": -uniform(2) - 1, "B": grouped[0], "C": grouped[1], "D": normal(2)}
    if variant == "rwkv7":
        decays = -decay * (4 * uniform(*tokens, 4)).exp() / 10
        return {"r": q, "w": decays, "k": k, "v": v, "kk": unit, "a": uniform(*tokens, 4)}
    if variant.startswith("titans"):
        rates = {"theta": 0.5 * uniform(*tokens), "eta": uniform(*tokens), "alpha": 0.3 * uniform(*tokens)}
        return {"q": q, "k": unit, "v": v, **rates}
    weights = {"w0": normal(2, 2, 5, 4), "w1": normal(2, 2, 3, 5), "w2": normal(2, 2, 5, 4)}
    rates = {f"lr{i}": 0.1 * uniform(*tokens) for i in range(3)}
    momentum = {} if variant == "lact" else {"momentum": uniform(*tokens)}
    return {**weights, "q": q, "k": k, "v": v, **rates, **momentum}


def part_of(inputs: dict, part: slice) -> dict:
    """Return a segment of the inputs; those without a time dimension stay whole."""
    whole = {"A", "D", "w0", "w1", "w2"}
    return {name: tensor if name in whole else tensor[:, part] for name, tensor in inputs.items()}
