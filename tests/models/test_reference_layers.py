"""The layers equal those of their reference implementations: outputs, gradients and states, under converted names."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from tttkit.models import build_model

from .operators.cases import COMMITTED, read_case
from .reference_names import gated_deltanet_from_transformers, lact_from_authors, load, mamba2_from_transformers
from .small import small_config

FOLDER = COMMITTED / "layers"


def layer_of(dtype, **fields):
    return build_model(small_config(num_hidden_layers=1, **fields), seed=0).to(dtype).model.layers[0].seq_modeling_block


def gated_deltanet(facts, dtype):
    config = facts["config"]
    layer = layer_of(
        dtype,
        architecture="gated-deltanet",
        hidden_size=config["hidden_size"],
        num_attention_heads=config["num_value_heads"],
        num_key_heads=config["num_key_heads"],
        key_head_dim=config["head_k_dim"],
        value_head_dim=config["head_v_dim"],
        rms_norm_eps=config["norm_eps"],
    )
    heads = {"key_heads": config["num_key_heads"], "value_heads": config["num_value_heads"]}
    return layer, lambda given: gated_deltanet_from_transformers(given, **heads)


def mamba2(facts, dtype):
    config = facts["config"]
    layer = layer_of(
        dtype,
        architecture="mamba2",
        hidden_size=config["hidden_size"],
        num_attention_heads=config["num_heads"],
        num_groups=config["n_groups"],
        state_size=config["state_size"],
    )
    return layer, mamba2_from_transformers


def lact(facts, dtype):
    config = facts["config"]
    layer = layer_of(
        dtype,
        architecture="lact",
        hidden_size=config["hidden_size"],
        num_attention_heads=config["num_attn_heads"],
        fast_heads=config["num_lact_heads"],
        fast_width=config["inter_multi"],
        fast_rank=max(0, config["w0_w2_low_rank"]),
        fast_muon=config["use_muon"],
        fast_momentum=config["use_momentum"],
        sliding_window=config["window_size"],
        mini_batch_size=config["lact_chunk_size"],
        rope_theta=config["rope_theta"],
    )
    return layer, lact_from_authors


LAYERS = {
    "gated_deltanet_case_1": gated_deltanet,
    "mamba2_case_1": mamba2,
    "lact_case_1": lact,
    "lact_case_2_low_rank": lact,
}


def check(name, dtype, folder, split):
    """Read the whole text at once, or in two segments that pass the state on."""
    tensors, facts = read_case(folder / f"{name}.safetensors", dtype)
    layer, convert = LAYERS[name](facts, dtype)
    named = {}
    for kind in ("param", "grad"):
        given = {key.removeprefix(f"{kind}."): value for key, value in tensors.items() if key.startswith(f"{kind}.")}
        given.pop("x", None)
        named[kind] = convert(given)
    load(layer, named["param"])
    x = tensors["x"].requires_grad_()
    state = None if split is None else layer.initial_state(x.shape[0])
    parts, position = [], 0
    for part in [x] if split is None else [x[:, :split], x[:, split:]]:
        part_output, state = layer(part, state if split is not None else None, position)
        parts.append(part_output)
        position += part.shape[1]
    output = torch.cat(parts, dim=1)
    (output * tensors["weight"]).sum().backward()
    tolerance, gradient_tolerance = (5e-5, 1e-3) if dtype == torch.float32 else (1e-6, 1e-6)
    assert distance(output, tensors["y"]) < tolerance
    assert distance(x.grad, tensors["grad.x"]) < gradient_tolerance
    for key, parameter in layer.named_parameters():
        assert distance(parameter.grad, named["grad"][key]) < gradient_tolerance, key
    return tensors, state


def distance(actual, expected):
    return ((actual - expected).abs().max() / expected.abs().max().clamp_min(1)).item()


@pytest.mark.parametrize("split", [None, 1, 23])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_equal_the_reference_implementations(name, dtype, split):
    tensors, state = check(name, dtype, FOLDER, split)
    if split is not None and "final_state" in tensors:
        assert distance(state["memory"], tensors["final_state"]) < 5e-5
        past = [state[key] for key in ("past_q", "past_k", "past_v", "past_inputs") if key in state]
        assert distance(torch.cat(past, dim=-1), tensors["final_conv_inputs"]) < 5e-5


def test_the_names_of_flash_linear_attention_are_ours():
    tensors, facts = read_case(FOLDER / "gated_deltanet_case_1.safetensors", torch.float64)
    layer, _ = gated_deltanet(facts, torch.float64)
    load(layer, {name.removeprefix("fla."): value for name, value in tensors.items() if name.startswith("fla.")})
    output, _ = layer(tensors["x"])
    assert distance(output, tensors["y"]) < 1e-6


def test_all_layer_files_of_the_specification(shared):
    folder = shared / "golden" / "ops" / "layers"
    assert {path.stem for path in folder.glob("*.safetensors")} == set(LAYERS)
    for name in LAYERS:
        check(name, torch.float64, folder, None)


SIZES = {"hidden_size": 64, "num_attention_heads": 16, "num_hidden_layers": 1}


@torch.no_grad()
def test_initial_decays_have_the_ranges_of_the_references():
    for architecture, least, most in (("gated-deltanet", 0.0, 16.0), ("mamba2", 1.0, 16.0)):
        rates, steps = [], []
        for seed in range(40):
            model = build_model(small_config(architecture=architecture, **SIZES), seed=seed)
            layer = model.model.layers[0].seq_modeling_block
            rates.append(layer.A_log.exp())
            steps.append(F.softplus(layer.dt_bias))
        rates, steps = torch.cat(rates), torch.cat(steps)
        assert least <= rates.min()
        assert rates.max() <= most
        # uniform
        assert abs(rates.mean() - (least + most) / 2) < 1
        assert steps.min() >= 0.001 * 0.999
        assert steps.max() <= 0.1 * 1.001
        # log-uniform
        assert abs(steps.log().mean() - math.log(0.01)) < 0.2


@torch.no_grad()
def test_initial_values_of_the_other_parameters():
    def layer_of_kind(**fields):
        return build_model(small_config(**{**SIZES, **fields}), seed=1).model.layers[0].seq_modeling_block

    mamba = layer_of_kind(architecture="mamba2")
    assert (mamba.D == 1).all()
    assert not mamba.conv1d.bias.any()
    for conv in (mamba.conv1d, layer_of_kind(architecture="deltanet").q_conv1d):
        assert conv.weight.std() == pytest.approx(0.02, rel=0.25)
    lact = layer_of_kind(architecture="lact", num_attention_heads=4)
    assert lact.w0.std() == pytest.approx(0.25, rel=0.1)
    assert lact.w1.std() == pytest.approx(0.25, rel=0.1)
    assert (lact.qk_scale == 1).all()
    assert not lact.qk_offset.any()
    for name in ("lr_proj", "momentum_proj", "scale_proj"):
        assert not lact.get_submodule(name).bias.any()
    low = layer_of_kind(architecture="lact", num_attention_heads=4, fast_heads=1, fast_rank=16)
    assert low.w0_left.std() == pytest.approx(0.125, rel=0.1)
    assert low.w0_right.std() == pytest.approx(0.5 / 8, rel=0.1)
    assert low._initial_weights()[0].diagonal(dim1=-2, dim2=-1).mean() == pytest.approx(0.5, abs=0.1)
    rwkv = layer_of_kind(architecture="rwkv7")
    assert not rwkv.o_proj.weight.any()
    torch.testing.assert_close(rwkv.r_proj.weight @ rwkv.r_proj.weight.T, torch.eye(64), rtol=0, atol=1e-4)
    titans = layer_of_kind(architecture="titans")
    assert (titans.alpha_proj.bias == -5).all()
