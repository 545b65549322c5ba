"""Which models use the kernels and the compiler, and the reason if they do not. The tests need no GPU."""

from __future__ import annotations

import importlib
import importlib.util

import pytest
import torch

from tttkit.models import LanguageModel, compiled
from tttkit.models.ttt_scan import fused_obstacle, triton_obstacle

from .small import small_config, small_model


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU, Triton and a C compiler; it lacks whatever the test adds to the returned set."""
    lacking = set()
    plain = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in lacking else (name == "triton" or plain(name))
    )
    monkeypatch.setattr("shutil.which", lambda name: None if name in lacking else f"/usr/bin/{name}")
    module = importlib.import_module("tttkit.models.compiled")  # the package has a function of its name
    monkeypatch.setattr(module, "has_triton", lambda: "driver" not in lacking)
    monkeypatch.setattr("tttkit.models.ttt_scan._TRITON_OBSTACLE", None)
    monkeypatch.setattr(LanguageModel, "device", torch.device("cuda"))
    return lacking


@pytest.mark.parametrize(
    ("fields", "device", "dtype", "expected"),
    [
        ({}, "cuda", torch.float32, None),
        ({}, "cuda", torch.bfloat16, None),
        ({}, "cpu", torch.float32, "none for a CPU"),
        ({"ttt_layer_type": "mlp"}, "cuda", torch.float32, "none for TTT-MLP"),
        ({}, "cuda", torch.float64, "none for float64"),
        ({"mini_batch_size": 64, "hidden_size": 128}, "cuda", torch.float32, None),
        (
            {"mini_batch_size": 65, "hidden_size": 128},
            "cuda",
            torch.float32,
            "none for mini-batches of 65 with heads of 64",
        ),
        (
            {"mini_batch_size": 16, "hidden_size": 1024},
            "cuda",
            torch.float32,
            "none for mini-batches of 16 with heads of 512",
        ),
    ],
)
def test_which_models_use_the_kernels(gpu, fields, device, dtype, expected):
    assert fused_obstacle(small_config(**fields), device, dtype) == expected


def test_what_triton_needs(gpu, monkeypatch):
    assert triton_obstacle() is None
    gpu.add("gcc")
    assert triton_obstacle() is None, "clang will do"
    gpu.add("clang")
    assert triton_obstacle() == "no C compiler found"
    gpu.add("triton")
    assert triton_obstacle() == "no Triton found"
    monkeypatch.setattr("tttkit.models.ttt_scan._TRITON_OBSTACLE", triton_obstacle())
    assert fused_obstacle(small_config(), "cuda", torch.float32) == "no Triton found"


@pytest.mark.parametrize(
    ("fields", "lacking", "reason"),
    [
        ({}, (), "blocks compiled for cuda, inner loops in a Triton kernel"),
        ({"ttt_layer_type": "mlp"}, (), "blocks compiled for cuda, inner loops too (kernel: none for TTT-MLP)"),
        ({"architecture": "sw"}, (), "blocks compiled for cuda"),
        ({}, ("triton",), "eager: no Triton found"),
        ({}, ("gcc", "clang"), "eager: no C compiler found"),
        ({}, ("driver",), "eager: no Triton for this GPU found"),
    ],
)
def test_how_a_model_runs_on_a_gpu(gpu, fields, lacking, reason):
    gpu.update(lacking)
    run = compiled(small_model(**fields))
    assert run.reason == reason
    assert (run._function is None) == reason.startswith("eager")
