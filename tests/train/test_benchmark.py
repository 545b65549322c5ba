"""Every model and peer is measured on the same batch, and the figures follow from each other."""

from __future__ import annotations

import pytest
import torch

from tests.models.small import small_config, small_model
from tttkit import device
from tttkit.errors import UsageError
from tttkit.train.benchmark import measure_training
from tttkit.train.logs import utilization

OPTIONS = {
    "window": 12, "batch_size": 2, "rounds": 1, "device": torch.device("cpu"), "precision": "fp32",
    "compile_blocks": False,
}  # fmt: skip
OFFICIAL = """
import torch


class TTTConfig:
    def __init__(self, **fields):
        self.fields = fields


class Output:
    def __init__(self, logits):
        self.logits = logits


class TTTForCausalLM(torch.nn.Module):
    '''Substitute for the official class: the same call and names, computed by our reference.'''

    def __init__(self, config):
        super().__init__()
        from tttkit.models import ModelConfig, build_model

        self.inner = build_model(ModelConfig.from_official(config.fields))

    def load_state_dict(self, weights):
        assert "lm_head.weight" in weights
        self.inner.load_state_dict({k: v for k, v in weights.items() if k != "lm_head.weight"})

    def forward(self, input_ids, use_cache):
        assert not use_cache
        return Output(self.inner(input_ids))
"""


@pytest.mark.parametrize(("kind", "peer"), [("gated-deltanet", "Qwen3-Next"), ("mamba2", "Mamba-2")])
def test_the_model_of_transformers_of_the_same_kind_runs_beside_ours(kind, peer):
    pytest.importorskip("transformers")
    config = small_config(architecture=kind, num_hidden_layers=4)
    ours, _, other = measure_training(config, **OPTIONS).contestants
    assert other.name == f"{peer} of transformers"
    assert other.num_parameters == pytest.approx(ours.num_parameters, rel=0.2), "Mamba-2 has whole layers"
    assert other.loss == pytest.approx(ours.loss, rel=0.1), "neither is trained"


def test_peers_run_beside_the_model(tmp_path):
    (tmp_path / "ttt.py").write_text(OFFICIAL)
    speed = measure_training(small_config(use_gate=True), **OPTIONS, official=tmp_path)
    assert [row.name for row in speed.contestants] == ["ttt-linear", "transformer", "official"]
    ours, transformer, official = speed.contestants
    assert ours.ratio == 1
    assert transformer.ratio == pytest.approx(transformer.seconds / ours.seconds), "the ratio of the only round"
    assert ours.loss == pytest.approx(official.loss, abs=1e-5)
    assert ours.loss != pytest.approx(transformer.loss, abs=1e-5)
    assert ours.num_parameters == official.num_parameters
    assert ours.how == "eager: as configured"
    assert set(speed.parts) == {"forward", "backward", "clip", "optimizer"}
    assert all(seconds > 0 for seconds in (*speed.parts.values(), *(row.seconds for row in speed.contestants)))
    assert speed.tokens_per_step == 24
    assert 0 < speed.mfu < 1
    assert speed.mfu == pytest.approx(speed.flop_per_step / speed.step_seconds / speed.peak_flop_per_second)
    assert speed.flop_per_step == 24 * small_model(use_gate=True).flops_per_token(12)
    assert speed.peak_memory_bytes > 50e6  # torch alone uses more


def test_the_peak_is_the_speed_of_the_fastest_product(monkeypatch):
    """A product of n x n matrices takes n^3 multiplications and additions; the first one does not count."""
    clock = iter([0.0, 0.1, 1.0, 3.0, 5.0, 6.0])
    monkeypatch.setattr(utilization.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(utilization, "_PEAK_SIZES", {"cpu": 100})
    assert utilization.peak_flop_per_second(torch.device("cpu"), "fp32", rounds=2) == 2e6


def test_unusable_paths_and_models_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no ttt.py at"):
        measure_training(small_config(), **OPTIONS, official=tmp_path)
    (tmp_path / "ttt.py").write_text("import no_such_package_as_this")
    with pytest.raises(UsageError, match="the official code cannot be loaded: No module named"):
        measure_training(small_config(), **OPTIONS, official=tmp_path)
    with pytest.raises(UsageError, match="has no `sw` model"):
        measure_training(small_config(architecture="sw"), **OPTIONS, official=tmp_path)


def test_the_number_of_threads_is_chosen_by_timing_the_model(monkeypatch):
    """The choice is made on request only, and everything is then measured with the chosen number."""
    before, steps = torch.get_num_threads(), []
    monkeypatch.setattr(device, "available_cores", lambda: 2)
    monkeypatch.setattr(device, "_MAX_ROUNDS", 1)
    monkeypatch.setattr(
        device, "_seconds", lambda step, _clock: (step(), steps.append(1), float(torch.get_num_threads()))[2]
    )
    torch.set_num_threads(2)
    try:
        assert measure_training(small_config(), **OPTIONS).threads is None
        assert steps == []
        speed = measure_training(small_config(), **OPTIONS, choose_threads=True)
    finally:
        torch.set_num_threads(before)
    assert (speed.num_threads, len(steps)) == (1, 3)
    assert speed.threads == {"chosen": 1, "why": "measured", "measured": {"1": 24.0, "2": 12.0}}
