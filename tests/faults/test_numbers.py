"""H1: non-finite numbers are skipped, then rolled back once, then end the run; nothing non-finite is ever saved."""

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
from tttkit.train.batches.initial_state import ContiguousStates
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
    """Whether all weights and states are; in chunk_nll.safetensors a NaN stands for what was not computed."""
    files = [file for file in run.path.rglob("*.safetensors") if file.name != "chunk_nll.safetensors"]
    assert files
    return all(torch.isfinite(tensor.float()).all() for file in files for tensor in load_file(file).values())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_h1_one_bad_update_is_skipped_and_counted(tiny_values, tmp_path, monkeypatch, where, value):
    Poison(monkeypatch, where, value, {5})
    outcome = train(tiny_values(), tmp_path / "run", report=lambda event: None)
    assert outcome.reason == "finished"
    records = outcome.run.read_metrics()
    assert [record["num_skipped"] for record in records] == [0] * 4 + [1] * 8
    shown = records[4]["loss" if where == "loss" else "grad_norm"]
    assert shown in ("NaN", "Infinity", "-Infinity"), "what is logged is the true value"
    assert _finite(outcome.run)
    assert "update 5 skipped" in outcome.run.training_log.read_text()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient", "fast weights"])
def test_h1_repeated_is_rolled_back_once_at_half_the_rate(tiny_values, tmp_path, monkeypatch, where, value):
    Poison(monkeypatch, where, value, {6, 7, 8})
    events = []
    outcome = train(tiny_values(), tmp_path / "run", report=events.append)
    assert outcome.reason == "finished"
    (rollback,) = outcome.run.read_metadata()["rollbacks"]
    assert (rollback["to_step"], rollback["lr_scale"]) == (4, 0.5)
    rates = {event["step"]: event["lr"] for event in events if event["event"] == "step"}
    plain = {event["step"]: event["lr"] for event in reversed(events) if event["event"] == "step"}
    assert rates[5] == pytest.approx(plain[5] / 2)
    assert any("half the learning rate" in event.get("message", "") for event in events)
    assert outcome.run.read_metrics()[-1]["num_skipped"] == (2 if where == "fast weights" else 3), "none is forgotten"
    assert _finite(outcome.run)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["loss", "gradient", "fast weights"])
def test_h1_again_after_the_rollback_ends_the_run(tiny_values, tmp_path, monkeypatch, where, value):
    Poison(monkeypatch, where, value, set(range(6, 1000)))
    with pytest.raises(NumericalError, match="after a rollback") as error:
        train(tiny_values(), tmp_path / "run", report=lambda event: None)
    assert error.value.exit_code == 5
    run = RunDirectory(tmp_path / "run")
    assert run.read_metadata()["result"]["reason"] == "nan-stopped"
    assert _finite(run)
    assert not run.final_model.exists()


def poison_states(monkeypatch, value: float, bad: set[int]) -> None:
    """Let fast weights that the next window starts from blow up, which the loss does not show."""
    add, num_updates = ContiguousStates.add, 0

    def poisoned(states, after):
        nonlocal num_updates
        add(states, after)
        num_updates += 1
        if num_updates in bad:
            layer = states._after[-1].layers[0]
            next(tensor for name, tensor in layer.items() if name.startswith("delta")).view(-1)[0] = value

    monkeypatch.setattr(ContiguousStates, "add", poisoned)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_h1_carried_fast_weights_are_checked_too(tiny_values, tmp_path, monkeypatch, value):
    values = tiny_values(train={"initial_state": "contiguous", "save_every": 1})
    poison_states(monkeypatch, value, {5})
    outcome = train(values, tmp_path / "run", report=lambda event: None)
    assert [record["num_skipped"] for record in outcome.run.read_metrics()] == [0] * 4 + [1] * 8
    assert "update 5 skipped" in outcome.run.training_log.read_text()
    assert "carried fast weights not finite" in outcome.run.training_log.read_text()
    assert _finite(outcome.run)


def test_h1_carried_fast_weights_that_stay_bad_end_the_run(tiny_values, tmp_path, monkeypatch):
    values = tiny_values(train={"initial_state": "contiguous", "save_every": 1})
    poison_states(monkeypatch, math.nan, set(range(6, 1000)))
    with pytest.raises(NumericalError, match="after a rollback"):
        train(values, tmp_path / "run", report=lambda event: None)
    assert _finite(RunDirectory(tmp_path / "run"))


def test_h1_a_stopped_run_that_is_resumed_is_rolled_back_no_more(tiny_values, tmp_path, monkeypatch):
    Poison(monkeypatch, "loss", math.nan, set(range(6, 1000)))
    for _ in range(2):
        with pytest.raises(NumericalError):
            train(tiny_values(), tmp_path / "run", report=lambda event: None)
    assert len(RunDirectory(tmp_path / "run").read_metadata()["rollbacks"]) == 1


def test_h1_weights_that_overflow_are_not_saved(tiny_values, tmp_path, monkeypatch):
    """A finite update can still leave infinite weights behind."""
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
    outcome = train(tiny_values(), tmp_path / "run", report=lambda event: None)
    assert outcome.reason == "finished"
    assert len(outcome.run.read_metadata()["rollbacks"]) == 1
    assert _finite(outcome.run)


def test_h1_more_than_one_percent_of_a_thousand_diverges():
    """Ten of the last thousand may be skipped, not eleven; those before count no more."""
    progress = TrainingProgress()
    for step in range(1, 2001):
        progress.count(step, 1.0, applied=step % 100 != 0)
        assert progress.divergence() is None
    progress.count(2001, 1.0, applied=False)
    assert "11 of the last 1000" in progress.divergence()
    json.dumps(progress.recently_skipped)
    progress.count(2100, 1.0, applied=True)
    assert progress.divergence() is None
