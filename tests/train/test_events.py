"""The JSON of events is an interface: the keys and their order must not change."""

from __future__ import annotations

import dataclasses

import pytest

from tttkit.results.summary import Summary
from tttkit.train.batches.curriculum import Stage
from tttkit.train.events import Evaluated, Evaluating, Plan, Resumed, Saved, StepLogged, Warned

STEP = StepLogged(
    step=5, loss=3.0, ppl=20.1, learning_rate=2e-4, grad_norm=0.8, tokens_seen=512, tokens_per_second=1e4,
    num_skipped=1, eta_seconds=None,
)  # fmt: skip
RECORD = {
    "step": 5, "loss": 3.0, "ppl": 20.1, "lr": 2e-4, "grad_norm": 0.8, "tokens_seen": 512, "tokens_per_second": 1e4,
    "num_skipped": 1, "eta_seconds": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            Resumed(step=4, state="step_4", num_bytes=9, skipped=["x"], num_steps_lost=2),
            {
                "event": "resumed", "step": 4, "state": "step_4", "num_bytes": 9, "skipped": ["x"], "num_steps_lost": 2,
            },
        ),
        (STEP, {"event": "step", **RECORD}),
        (
            dataclasses.replace(STEP, utilization={"mfu": 0.3}, window=64, inner={"fast_weight_norm": [1.0]}),
            {"event": "step", **RECORD, "mfu": 0.3, "window": 64, "fast_weight_norm": [1.0]},
        ),
        (Evaluating(step=8, done=0.5), {"event": "evaluating", "step": 8, "done": 0.5}),
        (
            Evaluated(is_best=True, is_last=False, num_waiting=0, patience=3, summary=Summary({"step": 8})),
            {
                "event": "evaluation", "is_best": True, "is_last": False, "num_waiting": 0, "patience": 3,
                "summary": {"step": 8},
            },
        ),
        (Saved(step=8, seconds=0.1), {"event": "saved", "step": 8, "seconds": 0.1}),
        (Warned(step=8, message="hot"), {"event": "warning", "step": 8, "message": "hot"}),
    ],
)  # fmt: skip
def test_json_of_an_event(event, expected):
    assert list(event.to_dict().items()) == list(expected.items()), "in this order"


def test_json_of_the_plan():
    plan = Plan(
        run="r", model="ttt-linear", num_parameters=1, train_tokens=2, validation_tokens=3, vocab_size=4, window=16,
        stages=[Stage(first_step=1, window=16, num_windows=4)], step=0, tokens_seen=0, max_steps=9, tokens_per_step=64,
        evaluation_steps=[0, 9], num_evaluations_done=0, num_evaluations_ahead=2,
        eval_max_length=80, eval_num_sequences=4, device="cpu",
        precision="fp32", num_threads=1, threads={"chosen": 1, "why": "measured", "measured": {"1": 9.5}}, seed=42,
        version="0", git_commit=None, resumed=False, state_bytes=12,
        planned_bytes=34, free_bytes=56,
    ).to_dict()  # fmt: skip
    assert list(plan) == [
        "event", "run", "model", "num_parameters", "train_tokens", "validation_tokens", "vocab_size", "window",
        "stages", "step", "tokens_seen", "max_steps", "tokens_per_step", "evaluation_steps",
        "num_evaluations_done", "num_evaluations_ahead",
        "eval_max_length", "eval_num_sequences", "device", "precision", "num_threads", "threads", "seed", "version",
        "git_commit", "resumed", "state_bytes", "planned_bytes", "free_bytes",
    ]  # fmt: skip
    assert plan["threads"] == {"chosen": 1, "why": "measured", "measured": {"1": 9.5}}
    assert plan["stages"] == [{"first_step": 1, "window": 16, "num_windows": 4}]
