"""A run with `cosine` that has ended goes on by a new cosine from its last rate."""

from __future__ import annotations

import pytest

from tests.train.resume.test_changes import LONGER, check, stop
from tests.training import train
from tttkit.config.run import OptimizerConfig, build_config
from tttkit.errors import UsageError
from tttkit.train.schedule import learning_rate


@pytest.fixture
def values(tiny_values):
    def build(max_steps=12, **optimizer):
        return tiny_values(
            train={"max_steps": max_steps}, optimizer={"warmup_ratio": 0.1, "min_lr_ratio": 0.2, **optimizer}
        )

    return build


def rates(run):
    return {item["step"]: item["lr"] for item in run.read_metrics()}


def continued(run):
    optimizer = run.read_metadata()["config"]["optimizer"]
    return optimizer["continued_at"], optimizer["continued_rate"]


def test_the_new_cosine_falls_from_the_last_rate_to_the_same_share_of_it():
    config = OptimizerConfig(learning_rate=1.0, min_lr_ratio=0.2, continued_at=100, continued_rate=0.5)
    assert learning_rate(100, config, max_steps=200) == 0.5
    assert learning_rate(150, config, max_steps=200) == pytest.approx(0.3)
    assert learning_rate(200, config, max_steps=200) == pytest.approx(0.1)
    assert learning_rate(90, config, max_steps=200) == 0.5, "an older training checkpoint repeats its last steps"


def test_a_finished_run_goes_on_from_its_last_rate_and_says_so(values, tmp_path):
    run = train(values(), tmp_path / "run").run
    before, events = rates(run), []
    train(values(18), run.path, allow_change=LONGER, report=events.append)
    after = rates(run)
    assert {step: after[step] for step in before} == before
    assert before[12] == pytest.approx(0.002)
    assert after[13] == pytest.approx(0.002, rel=0.06)
    assert [after[step] > after[step + 1] for step in range(12, 18)] == [True] * 6
    assert after[18] == pytest.approx(0.0004)
    assert continued(run) == (12, before[12])
    (message,) = [event["message"] for event in events if "cosine" in event.get("message", "")]
    expected = "the run had ended at step 12: the learning rate follows a new cosine from 0.002, its last value"
    assert message == f"{expected}, to 0.0004 at step 18"
    assert not any("follows the new schedule" in event.get("message", "") for event in events)
    check(run)
    assert train(values(18), run.path).already_ended, "the same command finds the run finished"
    train(values(24), run.path, allow_change=LONGER)
    assert continued(run) == (18, after[18])


@pytest.mark.parametrize("step", [13, 17])
def test_a_longer_run_that_is_killed_goes_on_with_the_same_bits(values, tmp_path, step):
    whole, run = (train(values(), tmp_path / name).run for name in ("whole", "run"))
    train(values(18), whole.path, allow_change=LONGER)
    stop(values(18), run.path, step, killed=True, allow_change=LONGER)
    train(values(18), run.path)
    model = "final_model/model.safetensors"
    assert (run.path / model).read_bytes() == (whole.path / model).read_bytes()
    assert rates(run) == rates(whole)


def test_an_early_stopped_run_goes_on_from_the_rate_at_which_it_stopped(tiny_values, tmp_path):
    stopping = {"patience": 2, "min_delta": "99%", "min_steps_ratio": 0.4}
    run = train(tiny_values(evaluation={"num_checkpoints": 13}, early_stopping=stopping), tmp_path / "run").run
    stopped = run.read_metadata()["result"]["step"]
    last = rates(run)[stopped]
    more = tiny_values(train={"max_steps": 20}, early_stopping={"enabled": False})
    allowed = LONGER | {"early_stopping.enabled", "early_stopping.patience", "early_stopping.min_delta",
                        "early_stopping.min_steps_ratio", "evaluation.num_checkpoints"}  # fmt: skip
    train(more, run.path, allow_change=allowed)
    assert continued(run) == (stopped, last)
    assert stopped < 12
    assert last > rates(run)[stopped + 1] > rates(run)[20]


def test_another_peak_rate_is_followed_as_it_is_asked_for(values, tmp_path):
    """The usual cosine of the new peak and the new number of steps replaces the new cosine."""
    run = train(values(), tmp_path / "run").run
    train(values(18), run.path, allow_change=LONGER)
    asked = values(24, learning_rate=0.005)
    train(asked, run.path, allow_change=LONGER | {"optimizer.learning_rate"})
    assert continued(run) == (None, None)
    usual = build_config(asked).optimizer
    assert rates(run)[20] == learning_rate(20, usual, max_steps=24)


def test_a_run_that_ended_at_rate_zero_is_refused(values, tmp_path):
    run = train(values(min_lr_ratio=0.0), tmp_path / "run").run
    before = run.metadata.read_bytes()
    with pytest.raises(UsageError, match="ended at a learning rate of 0") as error:
        train(values(18, min_lr_ratio=0.0), run.path, allow_change=LONGER)
    assert "--learning-rate" in error.value.hint
    assert run.metadata.read_bytes() == before


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"continued_at": 5}, "continued_at and optimizer.continued_rate need each other"),
        ({"continued_at": 5, "continued_rate": 1e-3, "schedule": "wsd"}, "needs optimizer.schedule cosine"),
    ],
)
def test_contradictions_are_refused(optimizer, message):
    with pytest.raises(UsageError, match=message):
        build_config({"optimizer": optimizer})
