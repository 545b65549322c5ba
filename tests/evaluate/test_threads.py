from __future__ import annotations

import pytest
import torch

from tests.models.small import random_ids, small_model
from tttkit import device
from tttkit.evaluate import threads
from tttkit.evaluate.threads import choose_for_evaluation
from tttkit.storage.files import read_json


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    """Two cores are available and one thread is fastest; the list holds the threads of each measured step."""
    before, steps = torch.get_num_threads(), []

    def seconds(step, _clock):
        step()
        steps.append(torch.get_num_threads())
        return float(torch.get_num_threads())

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(device, "available_cores", lambda: 2)
    monkeypatch.setattr(device, "_seconds", seconds)
    monkeypatch.setattr(device, "_MAX_ROUNDS", 2)
    yield steps
    torch.set_num_threads(before)


def test_the_number_is_measured_once_and_kept_when_the_evaluation_continues(measured, tmp_path):
    model, random = small_model(), torch.get_rng_state()
    choice = choose_for_evaluation(model, window=8, blocks=tmp_path)
    assert (choice.num_threads, choice.why, choice.tokens_per_second) == (1, "measured", {1: 2048.0, 2: 1024.0})
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.get_rng_state(), random)
    assert measured == [2, *[2, 1] * 2]
    assert read_json(tmp_path / "threads.json") == choice.to_dict()
    torch.set_num_threads(2)
    assert choose_for_evaluation(model, window=8, blocks=tmp_path) == choice
    assert (torch.get_num_threads(), len(measured)) == (1, 5)
    (tmp_path / "threads.json").write_text("{}")
    assert choose_for_evaluation(model, window=8, blocks=tmp_path) == choice
    assert len(measured) == 10


def test_windows_may_be_longer_than_the_measured_batch(measured, tmp_path):
    assert choose_for_evaluation(small_model(), window=4096, blocks=tmp_path).tokens_per_second[1] == 4096.0


def test_the_environment_wins(measured, monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    choice = choose_for_evaluation(small_model(), window=8, blocks=tmp_path)
    assert (choice.num_threads, choice.why, measured) == (2, "OMP_NUM_THREADS", [])


def test_nothing_is_measured_on_a_gpu(measured, tmp_path):
    class OnGpu:
        device = torch.device("cuda")

    assert choose_for_evaluation(OnGpu(), window=8, blocks=tmp_path) is None
    assert measured == []


def test_the_measurement_changes_no_score(measured, tmp_path):
    model, ids = small_model(), random_ids(2, 12)
    with torch.no_grad():
        before = model(ids)
        choose_for_evaluation(model, window=8, blocks=tmp_path)
        torch.testing.assert_close(model(ids), before, rtol=1e-6, atol=1e-6)
    assert threads._FILE_NAME in {path.name for path in tmp_path.iterdir()}
