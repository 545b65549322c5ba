"""Promise: updates that are not finite are skipped and counted, then the run is rolled back once, then it ends.

Tensors that are not finite are never saved.

Losses, gradients, fast weights, and weights are made NaN or infinite in chosen updates. See docs/reliability.md.
"""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from tests.training import train
from tttkit.errors import NumericalError
from tttkit.run.directory import RunDirectory
from tttkit.train import start, update
from tttkit.train.batches.initial_state import InitialStates
from tttkit.train.resume.progress import TrainingProgress


class Poison:
    """Makes numbers non-finite in chosen updates, counted over the whole test."""

    def __init__(self, monkeypatch, where: str, value: float, bad: set[int]) -> None:
        self.num_updates = 0
        backward = update.Updater._backward

        def poisoned(updater, batch, share):
            self.num_updates += 1
            loss = backward(updater, batch, share)
            if self.num_updates not in bad:
                return loss
            if where == "loss":
                return loss * value
            parameters = dict(updater._model.named_parameters())
            if where == "gradient":
                next(iter(parameters.values())).grad.view(-1)[0] = value
            else:
                name = next(name for name in parameters if name.endswith("W1"))
                parameters[name].data.view(-1)[0] = value
            return loss

        monkeypatch.setattr(update.Updater, "_backward", poisoned)


def _finite(run: RunDirectory) -> bool:
    """Return whether all saved tensors are finite; in chunk_nll.safetensors a NaN marks what was not computed."""
    files = [file for file in run.path.rglob("*.safetensors") if file.name != "chunk_nll.safetensors"]
    assert files
    return all(torch.isfinite(tensor.float()).all() for file in files for tensor in load_file(file).values())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_one_bad_update_is_skipped_and_counted(tiny_values, tmp_path, monkeypatch, where, value):
    Poison(monkeypatch, where, value, {5})
    outcome = train(tiny_values(), tmp_path / "run")
    assert outcome.reason == "finished"
    records = outcome.run.read_metrics()
    assert [record["num_skipped"] for record in records] == [0] * 4 + [1] * 8
    shown = records[4]["loss" if where == "loss" else "grad_norm"]
    assert shown in ("NaN", "Infinity", "-Infinity"), "the true value is logged"
    assert _finite(outcome.run)
    assert "update 5 skipped" in outcome.run.training_log.read_text()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient", "fast weights"])
def test_three_bad_updates_are_rolled_back_once_with_half_the_learning_rate(
    tiny_values, tmp_path, monkeypatch, where, value
):
    Poison(monkeypatch, where, value, {6, 7, 8})
    events = []
    outcome = train(tiny_values(), tmp_path / "run", report=events.append)
    assert outcome.reason == "finished"
    (rollback,) = outcome.run.read_metadata()["rollbacks"]
    assert (rollback["to_step"], rollback["lr_scale"]) == (4, 0.5)
    learning_rates = {event["step"]: event["lr"] for event in events if event["event"] == "step"}
    plain = {event["step"]: event["lr"] for event in reversed(events) if event["event"] == "step"}
    assert learning_rates[5] == pytest.approx(plain[5] / 2)
    assert any("half the learning rate" in event.get("message", "") for event in events)
    assert outcome.run.read_metrics()[-1]["num_skipped"] == (2 if where == "fast weights" else 3), (
        "every skipped update is counted"
    )
    assert _finite(outcome.run)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient", "fast weights"])
def test_bad_updates_after_a_rollback_end_the_run(tiny_values, tmp_path, monkeypatch, where, value):
    Poison(monkeypatch, where, value, set(range(6, 1000)))
    with pytest.raises(NumericalError, match="after a rollback") as error:
        train(tiny_values(), tmp_path / "run")
    assert error.value.exit_code == 5
    run = RunDirectory(tmp_path / "run")
    assert run.read_metadata()["result"]["reason"] == "nan-stopped"
    assert _finite(run)
    assert not run.final_model.exists()


def poison_initial_states(monkeypatch, value: float, bad: set[int]) -> None:
    """Make the initial fast weights of a row's next window infinite or NaN, which the loss does not show."""
    add, num_updates = InitialStates.add, 0

    def poisoned(states, after):
        nonlocal num_updates
        add(states, after)
        num_updates += 1
        if num_updates in bad:
            layer = states._after[-1].layers[0]
            next(tensor for name, tensor in layer.items() if name.startswith("delta")).view(-1)[0] = value

    monkeypatch.setattr(InitialStates, "add", poisoned)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_initial_fast_weights_are_checked_too(tiny_values, tmp_path, monkeypatch, value):
    values = tiny_values(train={"initial_state": "contiguous", "save_every": 1})
    poison_initial_states(monkeypatch, value, {5})
    outcome = train(values, tmp_path / "run", report=lambda event: None)
    assert [record["num_skipped"] for record in outcome.run.read_metrics()] == [0] * 4 + [1] * 8
    assert "update 5 skipped" in outcome.run.training_log.read_text()
    assert "recurrent state not finite" in outcome.run.training_log.read_text()
    assert _finite(outcome.run)


def test_initial_fast_weights_that_stay_bad_end_the_run(tiny_values, tmp_path, monkeypatch):
    values = tiny_values(train={"initial_state": "contiguous", "save_every": 1})
    poison_initial_states(monkeypatch, math.nan, set(range(6, 1000)))
    with pytest.raises(NumericalError, match="after a rollback"):
        train(values, tmp_path / "run")
    assert _finite(RunDirectory(tmp_path / "run"))


def test_a_run_that_was_rolled_back_and_resumed_is_not_rolled_back_again(tiny_values, tmp_path, monkeypatch):
    Poison(monkeypatch, "loss", math.nan, set(range(6, 1000)))
    for _ in range(2):
        with pytest.raises(NumericalError):
            train(tiny_values(), tmp_path / "run")
    assert len(RunDirectory(tmp_path / "run").read_metadata()["rollbacks"]) == 1


def test_weights_that_overflow_are_not_saved(tiny_values, tmp_path, monkeypatch):
    """An update with finite loss and gradient can still leave infinite weights."""
    build = start.build_model

    def overflowing(config):
        model = build(config)

        def overflow(module, _inputs):
            if model.training and overflow.count == 7:
                model.model.norm.weight.data.fill_(math.inf)
            overflow.count += model.training

        overflow.count = 0
        model.model.embed_tokens.register_forward_pre_hook(overflow)
        return model

    monkeypatch.setattr(start, "build_model", overflowing)
    outcome = train(tiny_values(), tmp_path / "run")
    assert outcome.reason == "finished"
    assert len(outcome.run.read_metadata()["rollbacks"]) == 1
    assert _finite(outcome.run)


def test_more_than_10_skipped_updates_in_1000_are_a_divergence():
    """10 of the last 1,000 updates may be skipped, but not 11; older ones no longer count."""
    progress = TrainingProgress()
    for step in range(1, 2001):
        progress.count(step, 1.0, applied=step % 100 != 0)
        assert progress.divergence() is None
    progress.count(2001, 1.0, applied=False)
    assert "11 of the last 1000" in progress.divergence()
    json.dumps(progress.recently_skipped)
    progress.count(2100, 1.0, applied=True)
    assert progress.divergence() is None
