"""Batches of an evaluation: bounded by what is fast and by the memory that is free."""

from __future__ import annotations

import pytest
import torch

from tests.models.small import small_config
from tttkit.evaluate import memory
from tttkit.models import ModelConfig

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("gigabytes", "tokens", "logits"), [(64, 16_384, 1335), (4, 8_192, 1335), (1, 2_048, 414), (1e-6, 1, 1)]
)
def test_the_reference_model_gets_what_its_memory_holds(monkeypatch, gigabytes, tokens, logits):
    """125M: some 100 kB a token; a quarter of the memory is given to them."""
    monkeypatch.setattr(memory, "available_bytes", lambda _: int(gigabytes * 1e9))
    config = ModelConfig.preset("ttt-125m")
    assert 90e3 < memory.bytes_per_token(config) < 110e3
    assert memory.batch_tokens(config, CPU) == tokens
    assert memory.batch_logits(config, CPU) == logits


def test_inner_models_of_two_layers_take_more():
    linear, mlp = (small_config(ttt_layer_type=kind) for kind in ("linear", "mlp"))
    assert memory.bytes_per_token(mlp) > memory.bytes_per_token(linear)


def test_the_stricter_of_system_and_control_group_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "own_cgroup", lambda: tmp_path)
    free = memory.available_bytes(CPU)
    assert 0 < free < 1 << 60
    for name, text in {"max": "5000000", "current": "4000000", "stat": "anon 9\ninactive_file 300000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.available_bytes(CPU) == 1_300_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(CPU) > 1_300_000
