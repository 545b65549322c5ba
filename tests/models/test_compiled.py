"""Eager and compiled models give the same results, and their hooks fire.

`TTTKIT_SLOW_TESTS=1` compiles more kinds of training, and in full, not only as far as the traced derivative.
"""

from __future__ import annotations

import dataclasses
import os
import shutil

import pytest
import torch

from tttkit.models import compiled
from tttkit.models.block import Block

from .small import random_ids, small_model

SLOW = bool(os.environ.get("TTTKIT_SLOW_TESTS"))
BACKEND = "inductor" if SLOW else "aot_eager"
slow = pytest.mark.skipif(not SLOW, reason="takes a minute")
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
# torch.compile warns about its own internals
pytestmark = pytest.mark.filterwarnings("default")


def test_on_a_cpu_it_runs_eagerly_by_default_and_says_why():
    model = small_model()
    run = compiled(model)
    assert run.reason == "eager: on a CPU by default"
    assert torch.equal(run(random_ids(2, 9)), model(random_ids(2, 9)))
    assert len(list(run.parameters())) == len(list(model.parameters()))


@needs_compiler
def test_compiled_blocks_compute_the_same():
    model = small_model(num_hidden_layers=1)
    run = compiled(model, enabled=True)
    assert run.reason == "blocks compiled for cpu"
    ids = random_ids(1, 5)
    expected = torch.autograd.grad(model(ids[:, :-1], ids[:, 1:]), list(model.parameters()))
    gradients = torch.autograd.grad(run(ids[:, :-1], ids[:, 1:]), list(model.parameters()))
    for ours, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("enabled", [False, pytest.param(True, marks=needs_compiler)], ids=["eager", "compiled"])
def test_hooks_of_the_model_and_of_every_block_fire(enabled):
    """FSDP and DDP use such hooks; the test adds some after the first call, which compiles."""
    model = small_model(num_hidden_layers=2)
    run = compiled(model, enabled=enabled)
    ids = random_ids(1, 5)
    fired = []
    modules = {"model": model, "first block": model.model.layers[0], "second block": model.model.layers[1]}

    def watch(name):
        modules[name].register_forward_pre_hook(lambda *_: fired.append(f"before {name}"))
        modules[name].register_forward_hook(lambda *_: fired.append(f"after {name}"))

    watch("model")
    run(ids[:, :-1], targets=ids[:, 1:])
    assert fired == ["before model", "after model"]
    fired.clear()
    watch("first block")
    watch("second block")
    run(ids[:, :-1], targets=ids[:, 1:])
    expected = [
        "before model", "before first block", "after first block", "before second block", "after second block",
        "after model",
    ]  # fmt: skip
    assert fired == expected
    fired.clear()
    run(ids[:, :-1], targets=ids[:, 1:], state=model.initial_state(1))
    run.step(ids, model.initial_state(1))
    model.step(ids, model.initial_state(1))
    assert fired == 3 * expected


@needs_compiler
def test_all_blocks_share_one_compiled_function():
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    run = compiled(small_model(num_hidden_layers=3), enabled=True)
    with torch.no_grad():
        run(random_ids(1, 4))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.parametrize(
    "fields",
    [
        {"inner_decay": "token"},
        {"architecture": "gated-deltanet"},
        pytest.param({"inner_momentum": 0.5, "inner_rescale": True, "ttt_layer_type": "mlp"}, marks=slow),
        pytest.param({"parallel_window": True, "sink": "tokens", "sliding_window": 3}, marks=slow),
    ],
    ids=["decay", "gated-deltanet", "momentum", "parallel"],
)
def test_compiled_training_takes_the_same_steps(fields):
    """Two updates, the second from the state of the first, as contiguous windows are trained."""
    torch._dynamo.reset()
    models = [small_model(num_hidden_layers=1, **fields) for _ in range(2)]
    ids = random_ids(2, 9)
    for model, function in zip(
        models, (None, torch.compile(Block.compute, backend=BACKEND, dynamic=False)), strict=True
    ):
        state = model.initial_state(2)
        for start in (0, 4):
            window = ids[:, start : start + 5]
            loss, state = model(window[:, :-1], window[:, 1:], state, function)
            model.zero_grad()
            loss.backward()
            state = dataclasses.replace(state.detach(), position=0)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad
    for eager, ours in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-4, atol=1e-5)
