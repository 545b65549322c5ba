"""Contiguous windows and diagnostics in whole runs."""

from __future__ import annotations

import json

import pytest
import torch

from tests.models.small import small_model
from tests.training import train
from tttkit.config.run import TrainConfig
from tttkit.data import open_split
from tttkit.models import load_model
from tttkit.models.ttt import TTTLayer
from tttkit.train.batches.feed import Feed

CONTIGUOUS = {
    "initial_state": "contiguous",
    "initial_state_from": 0.25,
    "initial_state_reset": 0.1,
    "initial_state_zero_share": 0.25,
}


class CrashError(Exception):
    pass


def run_training(values, out, crash_at=None):
    events = []

    def report(event):
        events.append(event)
        if event["event"] == "step" and event["step"] == crash_at:
            raise CrashError

    return train(values, out, report=report).run, events


def results(run):
    losses = [(record["step"], record["loss"].hex()) for record in run.read_metrics()]
    return losses, (run.path / "final_model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("decay", [1.0, 0.7, "learned"])
def test_a_run_with_contiguous_windows_resumes_bit_for_bit(tiny_values, tmp_path, decay):
    """The run stops before the first contiguous update, and twice between saves after it."""
    values = tiny_values(train={**CONTIGUOUS, "initial_state_decay": decay, "save_every": 2})
    whole, _ = run_training(values, tmp_path / "whole")
    for step in (3, 7, 11):
        with pytest.raises(CrashError):
            run_training(values, tmp_path / "stopped", crash_at=step)
    stopped, events = run_training(values, tmp_path / "stopped")
    assert results(stopped) == results(whole)
    assert stopped.read_metadata()["segments"][-1]["resume_verified"] is True
    assert not [event for event in events if event["event"] == "warning"]
    model = load_model(whole.path / "final_model")
    assert (model.config.decays, model.config.decay_window) == ((decay != 1.0), 16 if decay != 1.0 else 64)
    assert model.config.learn_state_decay == (decay == "learned")


@pytest.mark.parametrize("kind", ["passed", "fitted", "gaussian"])
def test_a_run_with_other_initial_states_resumes_bit_for_bit(tiny_values, tmp_path, kind):
    """The first update with states begins from zero too, so losses differ from the second one on."""
    values = tiny_values(train={**CONTIGUOUS, "initial_state": kind, "save_every": 2})
    whole, _ = run_training(values, tmp_path / "whole")
    for step in (7, 11):
        with pytest.raises(CrashError):
            run_training(values, tmp_path / "stopped", crash_at=step)
    stopped, events = run_training(values, tmp_path / "stopped")
    assert results(stopped) == results(whole)
    assert not [event for event in events if event["event"] == "warning"]
    plain, _ = run_training(tiny_values(), tmp_path / "plain")
    same = [a["loss"] == b["loss"] for a, b in zip(plain.read_metrics(), whole.read_metrics(), strict=True)]
    assert same == [True] * 4 + [False] * 8


@pytest.mark.parametrize(("before", "after"), [(4, 6), (6, 4), (4, 7), (3, 9)])
def test_shuffled_windows_continue_where_they_ended_if_the_batch_changes(tiny_data, before, after):
    """No window of an epoch is left out or read twice."""
    split = open_split(tiny_data, "train")
    model = small_model()

    def feed(batch_size):
        return Feed(model, split, TrainConfig(window=16, batch_size=batch_size, max_steps=20))

    single = feed(1)
    order = [single.windows(step)[0] for step in range(1, 5 * before + 3 * after + 1)]
    first, second = feed(before), feed(after)
    read = [row for step in range(1, 6) for row in first.windows(step)]
    second.windows(6)  # read at another place, and ahead
    second.load({}, 5, 5 * before * 16)
    read += [row for step in range(6, 9) for row in second.windows(step)]
    for each in (single, first, second):
        each.close()
    assert all(torch.equal(row, expected) for row, expected in zip(read, order, strict=True))


def test_contiguous_rows_start_from_zero_if_their_number_changes(tiny_values, tmp_path):
    values = tiny_values(train={**CONTIGUOUS, "save_every": 2})
    with pytest.raises(CrashError):
        run_training(values, tmp_path / "run", crash_at=9)
    larger = tiny_values(train={**CONTIGUOUS, "save_every": 2, "batch_size": 8})
    run = train(larger, tmp_path / "run", allow_change=frozenset({"train.batch_size"})).run
    assert [record["step"] for record in run.read_metrics()] == list(range(1, 13))


def test_contiguous_windows_change_what_is_learned_from_their_first_step_on(tiny_values, tmp_path):
    plain, _ = run_training(tiny_values(), tmp_path / "plain")
    contiguous, _ = run_training(tiny_values(train=CONTIGUOUS), tmp_path / "contiguous")
    same = [a["loss"] == b["loss"] for a, b in zip(plain.read_metrics(), contiguous.read_metrics(), strict=True)]
    assert same == [True] * 3 + [False] * 9


@pytest.mark.parametrize("initial_state", ["zero", "contiguous"])
def test_inner_loops_are_recorded(tiny_values, tmp_path, initial_state):
    run, _ = run_training(tiny_values(train={"initial_state": initial_state, "inner_loss_every": 4}), tmp_path / "run")
    records = run.read_metrics()
    assert [record["step"] for record in records if "inner_loss_before" in record] == [4, 8, 12]
    record = records[-1]
    assert len(record["inner_loss_before"]) == len(record["inner_loss_after"]) == 16
    assert len(record["fast_weight_norm"]) == 1
    assert record["fast_weight_norm"][0] > 0
    assert sum(record["inner_loss_after"]) < sum(record["inner_loss_before"])
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize("initial_state", ["zero", "contiguous"])
def test_diagnostics_read_the_first_windows_of_the_update_from_their_initial_states(tiny_data, initial_state):
    model = small_model(vocab_size=300, mini_batch_size=8)
    config = TrainConfig(window=16, batch_size=10, initial_state=initial_state, seed=1, compile=False, max_steps=9)
    feed = Feed(model, open_split(tiny_data, "train"), config)
    with torch.no_grad():
        for step in (1, 2):
            windows = feed.windows(step)
            state = feed.initial_state(10)
            if state is not None:
                _, after = model(windows[:, :-1], state=state)
                feed.keep_state(after)
                state = state.select(range(8))
            record = feed.diagnostics()
            feed.end_update(applied=True)
    feed.close()
    assert record == model.diagnostics(windows[:8, :-1], state)
    assert (record == model.diagnostics(windows[:8, :-1])) == (initial_state == "zero")


def test_a_layer_that_keeps_nothing_gets_one_warning(tiny_values, tmp_path, monkeypatch):
    """The position factor of the last token, which scales all that a mini-batch learns, can reach 0 and stay there."""
    plain, changed = TTTLayer.reset_parameters, []

    def reset_parameters(layer):
        plain(layer)
        if not changed:
            changed.append(layer)
            with torch.no_grad():
                layer.learnable_token_idx[-1] = -1.0

    monkeypatch.setattr(TTTLayer, "reset_parameters", reset_parameters)
    values = tiny_values(train={"inner_loss_every": 4}, model={"num_hidden_layers": 2})
    run, events = run_training(values, tmp_path / "run")
    norms = [record["fast_weight_norm"] for record in run.read_metrics() if "fast_weight_norm" in record]
    assert [norm > 0 for layers in norms for norm in layers] == [False, True] * 3
    (warning,) = [event for event in events if event["event"] == "warning"]
    assert warning["step"] == 4
    assert "layer 0 keeps nothing from one mini-batch to the next" in warning["message"]
    assert warning["message"] in run.training_log.read_text()
    model = load_model(run.path / "final_model")
    assert model.model.layers[0].seq_modeling_block.learnable_token_idx[-1].item() == -1.0, "no gradient, no decay"


def test_diagnostics_change_no_bit(tiny_values, tmp_path):
    runs = [
        run_training(tiny_values(train={"inner_loss_every": every}), tmp_path / str(every))[0] for every in (1, 1000)
    ]
    assert results(runs[0]) == results(runs[1])


def test_attention_records_no_diagnostics(tiny_values, tmp_path):
    values = tiny_values(model={"architecture": "sw"}, train={"inner_loss_every": 1, "max_steps": 2})
    run, _ = run_training(values, tmp_path / "run")
    assert not any("inner_loss_before" in record for record in run.read_metrics())


def test_a_window_of_one_mini_batch_gets_a_warning(tiny_values, tmp_path):
    values = tiny_values(model={"mini_batch_size": 16}, train={"max_steps": 0})
    _, events = run_training(values, tmp_path / "run")
    messages = [event["message"] for event in events if event["event"] == "warning"]
    assert len(messages) == 1
    assert "mini_batch_size equals train.window (16)" in messages[0]
    _, events = run_training(tiny_values(train={"max_steps": 0}), tmp_path / "other")
    assert not [event for event in events if event["event"] == "warning"]
