"""The figures below the progress rows."""

from __future__ import annotations

import dataclasses

import pytest

from tests.cli.test_train import PLAN
from tttkit.train.events import StepLogged
from tttkit_cli.views.train_live import LiveRows

STEP = StepLogged(
    step=5, loss=3.0, ppl=20.1, learning_rate=2.1e-4, grad_norm=0.81, tokens_seen=5120, tokens_per_second=41_200.0,
    num_skipped=0, eta_seconds=None,
)  # fmt: skip
CARD = {"mfu": 0.312, "gpu_memory_used": 38e9, "gpu_memory_total": 80e9}


@pytest.mark.parametrize(
    ("utilization", "shown"),
    [
        ({}, []),
        (CARD, ["MFU 31 %", "GPU 38/80 GB"]),
        ({**CARD, "gpu_utilization": 0.71}, ["MFU 31 %", "GPU 71 % 38/80 GB"]),
    ],
)
def test_gpu_figures_are_shown_as_far_as_they_are_known(utilization, shown):
    rows = LiveRows()
    rows.begin(dataclasses.replace(PLAN, evaluation_steps=[10], max_steps=10))
    rows.show(dataclasses.replace(STEP, utilization=utilization))
    *_, figures = rows.get_renderables()
    parts = figures.plain.replace("\n", " · ").split(" · ")
    assert parts == [
        "loss 3.000 (3.000 smoothed)", "ppl 20.10", "lr 2.1e-04", "41.2k tok/s", "gnorm 0.81", *shown, "ETA -",
    ]  # fmt: skip
