"""Batches of an evaluation are bounded by the fastest size and by the free memory."""

from __future__ import annotations

import pytest
import torch

from tttkit.evaluate import memory
from tttkit.models import ModelConfig, build_model

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("gigabytes", "tokens", "logits"), [(64, 16_384, 1335), (4, 8_192, 1335), (1, 2_048, 414), (1e-6, 1, 1)]
)
def test_the_reference_model_gets_batches_that_fit_in_memory(monkeypatch, gigabytes, tokens, logits):
    """At 125M a token needs about 100 kB; an evaluation uses a quarter of the free memory."""
    monkeypatch.setattr(memory, "available_bytes", lambda _: int(gigabytes * 1e9))
    with torch.device("meta"):
        model = build_model(ModelConfig.preset("ttt-125m"))
    assert 90e3 < model.bytes_per_token() < 110e3
    assert memory.batch_tokens(model.bytes_per_token(), CPU) == tokens
    assert memory.head_positions(model.vocab_size, CPU) == logits


def test_the_stricter_of_system_and_control_group_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "groups", lambda _: [tmp_path / "own", tmp_path])
    free = memory.available_bytes(CPU)
    assert 0 < free < 1 << 60
    for name, text in {"max": "5000000", "current": "4000000", "stat": "anon 9\ninactive_file 300000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.available_bytes(CPU) == 1_300_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(CPU) > 1_300_000


def test_a_control_group_of_version_1_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "groups", lambda _: [tmp_path])
    (tmp_path / "memory.limit_in_bytes").write_text("5000000\n")
    (tmp_path / "memory.usage_in_bytes").write_text("4000000\n")
    (tmp_path / "memory.stat").write_text("inactive_file 7\ntotal_inactive_file 300000\n")
    assert memory.available_bytes(CPU) == 1_300_000
    for limit in ("9223372036854771712", "what"):
        (tmp_path / "memory.limit_in_bytes").write_text(f"{limit}\n")
        assert memory.available_bytes(CPU) > 1_300_000
