"""Eager and compiled models give the same results, and their hooks fire."""

from __future__ import annotations

import shutil

import pytest
import torch

from tttkit.models import compiled

from .small import random_ids, small_model

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
