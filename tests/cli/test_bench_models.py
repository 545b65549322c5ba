"""`tttkit bench train` and `tttkit bench inference`."""

from __future__ import annotations

import importlib.util
import json

import pytest

from .conftest import tttkit

QUICK = ("bench", "train", "--preset", "quick", "--batch-size", 1, "--window", 16, "--rounds", 1, "--no-compile")


def test_training_is_shown_beside_a_transformer():
    result = tttkit(*QUICK)
    assert result.code == 0, result.err
    for part in ("ttt-linear", "transformer", "steps/s", "MFU", "peak memory", "forward", "optimizer"):
        assert part in result.out
    figures = json.loads(tttkit(*QUICK, "--json").out)
    assert [row["name"] for row in figures["contestants"]] == ["ttt-linear", "transformer"]
    assert figures["step_seconds"] > 0


SHORT = ("--context", 8, "--context", 64, "--tokens", 2, "--rounds", 1)


def test_inference_is_shown_by_context_beside_peers(finished, tmp_path):
    result = tttkit("bench", "inference", finished / "best_model", *SHORT, "--out", tmp_path / "new" / "speed")
    assert result.code == 0, result.err
    written = json.loads((tmp_path / "new" / "speed" / "inference.json").read_text())
    names = ["ttt-linear", "transformer"]
    if importlib.util.find_spec("transformers"):
        names += ["GPT-2 of transformers", "Mamba-2 of transformers"]
    assert [(row["context"], row["name"]) for row in written["rows"]] == [(c, name) for c in (8, 64) for name in names]
    assert (tmp_path / "new" / "speed" / "inference.png").read_bytes().startswith(b"\x89PNG")
    assert all(name.split()[0] in result.out for name in names)


def test_inference_of_several_models_and_batches(finished, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    options = ("--no-peers", "--batch-size", 1, "--batch-size", 3, "--json")
    result = tttkit("bench", "inference", finished / "best_model", tmp_path / "gpt2", *SHORT, *options)
    assert result.code == 0, result.err
    rows = [(row["batch_size"], row["context"], row["name"]) for row in json.loads(result.out)]
    both = [(8, "best_model"), (8, "gpt2"), (64, "best_model")]
    assert rows == [(batch_size, *row) for batch_size in (1, 3) for row in both]
    assert "gpt2 reads at most 32 tokens, so it is left out at 64" in result.err
    alone = tttkit("bench", "inference", tmp_path / "gpt2", "--context", 8, "--tokens", 2, "--rounds", 1)
    assert (alone.code, "peers of the same size are built for models of tttkit only" in alone.err) == (0, True)
    beyond = tttkit("bench", "inference", tmp_path / "gpt2", "--context", 64, "--no-peers")
    assert (beyond.code, "no model reads" in beyond.error) == (2, True)


def test_a_context_beyond_the_free_memory_is_left_out_with_a_reason(finished, monkeypatch):
    from tttkit.evaluate import memory

    monkeypatch.setattr(memory, "available_bytes", lambda device: 100_000)
    options = ("--context", 8, "--context", 4096, "--tokens", 1, "--rounds", 1, "--threads", 1)
    result = tttkit("bench", "inference", finished / "best_model", *options)
    assert result.code == 0, result.err
    assert "transformer is left out at 1 x 4,096 tokens: its states need about" in result.err
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10)
    nothing = tttkit("bench", "inference", finished / "best_model", *options, "--no-peers")
    assert (nothing.code, "no model fits in the free memory" in nothing.err) == (2, True)


def test_wrong_options():
    assert "unknown precision `fp8`" in tttkit(*QUICK, "--precision", "fp8").error
    assert "unknown preset `none`" in tttkit("bench", "train", "--preset", "none").error
    assert "no ttt.py at nowhere" in tttkit(*QUICK, "--official", "nowhere").error
