"""Equality with the official implementation: its logits, losses and gradients on random weights are in tests/golden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from tttkit.models import from_official, to_official

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", ["ttt_linear", "ttt_mlp", "ttt_linear_gate_shareqk_conv"])
def test_logits_nll_loss_and_gradients_equal_the_official_ones(name):
    config = json.loads((GOLDEN / f"{name}.json").read_text())
    golden = load_file(GOLDEN / f"{name}.safetensors")
    weights = {key.removeprefix("param."): tensor for key, tensor in golden.items() if key.startswith("param.")}
    gradients = {key.removeprefix("grad."): tensor for key, tensor in golden.items() if key.startswith("grad.")}
    input_ids = golden["input_ids"]
    assert input_ids.shape[1] % config["mini_batch_size"] != 0

    model = from_official(config, weights)
    logits = model(input_ids)
    nll = F.cross_entropy(logits[:, :-1].transpose(1, 2), input_ids[:, 1:], reduction="none")
    nll.mean().backward()

    assert logits.dtype == torch.float32
    assert (logits - golden["logits"]).abs().max() < 2e-5
    assert (nll - golden["nll"]).abs().max() < 2e-5
    assert abs(nll.mean() - golden["loss"].item()) < 1e-5
    ours = to_official(model, grads=True)
    assert ours.keys() == gradients.keys()
    for key, expected in gradients.items():
        assert (ours[key] - expected).norm() / expected.norm() < 1e-4, key
    model.zero_grad()
    # as the trainer computes it
    loss = model(input_ids[:, :-1], targets=input_ids[:, 1:])
    loss.backward()
    assert abs(loss - golden["loss"].item()) < 1e-5
    for key, expected in gradients.items():
        assert (model.get_parameter(key).grad - expected).norm() / expected.norm() < 1e-4, key
    assert all(torch.equal(tensor, weights[key]) for key, tensor in to_official(model).items())
