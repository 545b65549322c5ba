from __future__ import annotations

import dataclasses
import math

import pytest

from tests.train.test_events import STEP
from tests.training import train


def test_records_of_a_run(tiny_values, tmp_path):
    events = []
    values = tiny_values(
        train={"max_steps": 4, "inner_loss_every": 2, "stages": [{"share": 0.5, "window": w} for w in (16, 32)]},
        evaluation={"num_checkpoints": 0},
    )
    run = train(values, tmp_path / "run", report=events.append).run
    steps = [event for event in events if event["event"] == "step"]
    records = run.read_metrics()
    for event, record in zip(steps, records, strict=True):
        assert list({**event, "time": record["time"]}.items())[1:] == list(record.items()), "the same figures"
        assert event["ppl"] == math.exp(event["loss"])
        assert event["tokens_seen"] == event["step"] * 4 * 16
        assert event["num_skipped"] == 0
    assert [event["window"] for event in steps] == [16, 16, 32, 32]
    assert ["inner_loss_before" in event for event in steps] == [False, True, False, True]
    assert steps[-1]["eta_seconds"] == 0


@pytest.fixture
def records(tiny_values, tiny_data):
    """Records of a run that has not begun."""
    import torch

    from tttkit.config.run import build_config
    from tttkit.train.logs.pace import Pace
    from tttkit.train.logs.step_record import StepRecords

    config = build_config(tiny_values(model={"vocab_size": 300}))

    class Feed:
        window, flops_per_step = 16, 1.0

    return StepRecords(config, torch.device("cpu"), Feed(), Pace(config.train, []))


def test_each_layer_whose_fast_weights_do_not_change_is_named_once(records):
    def warning(*norms):
        return records.warning(dataclasses.replace(STEP, inner={"fast_weight_norm": list(norms)}))

    assert warning(1.0, 1.0, 1.0) is None
    assert warning(0.0, 1.0, 0.0).startswith("layer 0, 2 keeps nothing")
    assert warning(0.0, 1.0, 0.0) is None
    assert warning(0.0, 0.0, 0.0).startswith("layer 1 keeps")
    assert records.warning(STEP) is None
