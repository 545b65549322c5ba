"""The vital figures below the progress rows."""

from __future__ import annotations

import pytest

from tttkit_cli.views.train_live import LiveRows

STEP = {
    "event": "step", "step": 5, "loss": 3.0, "ppl": 20.1, "lr": 2.1e-4, "tokens_per_second": 41_200.0,
    "grad_norm": 0.81, "eta_seconds": None, "num_skipped": 0,
}  # fmt: skip
CARD = {"mfu": 0.312, "gpu_memory_used": 38e9, "gpu_memory_total": 80e9}


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({}, []),
        (CARD, ["MFU 31 %", "GPU 38/80 GB"]),
        ({**CARD, "gpu_utilization": 0.71}, ["MFU 31 %", "GPU 71 % 38/80 GB"]),
    ],
)
def test_a_gpu_is_shown_as_far_as_it_is_known(more, shown):
    rows = LiveRows()
    rows.begin({"evaluation_steps": [10], "max_steps": 10, "step": 0})
    rows.show({**STEP, **more})
    *_, figures = rows.get_renderables()
    parts = figures.plain.replace("\n", " · ").split(" · ")
    assert parts == [
        "loss 3.000 (3.000 smoothed)", "ppl 20.10", "lr 2.1e-04", "41.2k tok/s", "gnorm 0.81", *shown, "ETA -",
    ]  # fmt: skip
