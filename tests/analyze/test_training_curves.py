"""Plateau, early stopping, phase transitions, learning rate: planted answers are found, smooth noise gives none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tttkit.analyze.convergence import convergence, early_stopping, plateau_start, stop_index, training_loss
from tttkit.analyze.learning_rate import learning_rate
from tttkit.analyze.record import Record, RecordedEvaluation, load
from tttkit.analyze.transitions import SIGNIFICANCE, strongest_kink, transitions
from tttkit.analyze.trend import fit_slope, t_quantile
from tttkit.config.run import EarlyStoppingConfig
from tttkit.results.summary import Summary
from tttkit.run.directory import find_run
from tttkit.train.early_stopping import EarlyStopping

STEPS = list(range(0, 5001, 100))


def curve(make_run, value, noise=0.002, **options):
    """Make a run whose PPL at every position is value(step), with noise that is drawn once per evaluation."""

    def nll(context, step, _):
        own = np.random.default_rng(step).normal(0, noise)
        return np.full((4, 20), np.log(value(max(step, 1))) + own)

    return make_run(STEPS, nll, **options)


def test_a_planted_plateau_is_found(make_run):
    finding = convergence(curve(make_run, lambda step: 80 * max(1, (2500 / step) ** 0.5)))
    assert finding.verdict == "plateau"
    assert finding.rows[0]["plateau_at"] == pytest.approx(2048 * 2500, rel=0.15)


def test_a_curve_that_falls_to_the_end_has_no_plateau(make_run):
    finding = convergence(curve(make_run, lambda step: 80 * (5000 / step) ** 0.5))
    assert (finding.verdict, finding.rows[0]["plateau_at"]) == ("falling", None)


def test_a_curve_that_gets_worse_says_so_and_noise_says_nothing(make_run):
    rising = convergence(curve(make_run, lambda step: 80 + max(0, step - 2500) / 100, name="rising"))
    noisy = convergence(curve(make_run, lambda step: 80, noise=0.3, name="noisy"))
    assert (rising.verdict, noisy.verdict) == ("rising", "undecided")


def test_three_evaluations_are_not_enough(make_run):
    assert convergence(make_run([0, 10, 20], lambda *_: np.full((4, 20), 4.0))).verdict == "unknown"


def test_the_loss_and_its_alarm(make_run):
    metrics = [{"step": step, "tokens_seen": 2048 * step, "loss": 9 - step / 1000, "lr": 1e-3} for step in STEPS[1:]]
    metrics[3]["loss"] = 0.0
    finding = training_loss(curve(make_run, lambda _: 80, metrics=metrics))
    assert finding.verdict == "falling"
    assert finding.rows[0]["change_per_10_percent"] == pytest.approx(-0.5)
    assert (finding.rows[0]["below_1"], finding.rows[0]["exactly_0"]) == (1, 1)
    assert "ALARM" in finding.statement


def test_the_replayed_rule_stops_where_the_trainer_stops():
    generator = np.random.default_rng(0)
    for delta in ("0.5%", "50", "0.01"):
        relative = delta.endswith("%")
        for _ in range(30):
            values = 1000 * np.exp(-np.arange(60) / 20) + generator.normal(0, 20, 60) + 100
            config = EarlyStoppingConfig(patience=4, min_delta=delta, min_steps_ratio=0.2)
            trainer, expected = EarlyStopping(config, max_steps=59), None
            for index, value in enumerate(values):
                trainer.update(value, checkpoint=index)
                if trainer.should_stop(index):
                    expected = index
                    break
            number = float(delta.removesuffix("%")) / (100 if relative else 1)
            share = np.arange(60) / 59
            assert stop_index(values, share, delta=number, relative=relative, least=0.2, patience=4) == expected


def test_early_stopping_says_what_it_would_have_cost(make_run):
    finding = early_stopping(curve(make_run, lambda step: 400 if step < 3000 else 100, noise=0.0))
    row = finding.rows[0]
    assert row["stops_at"] == 2048 * 1100
    assert row["lost_percent"] == pytest.approx(300)
    assert finding.verdict == "not stopped"


def power_law(generator, noise, offset, correlation=0.0, count=50):
    x = np.linspace(1, count, count)
    own = generator.normal(0, noise, count)
    for index in range(1, count):
        own[index] += correlation * own[index - 1]
    return x, np.log(offset + 50 * x**-0.6) + own


@pytest.mark.parametrize(("offset", "correlation"), [(0.0, 0.0), (5.0, 0.0), (0.0, 0.6)])
def test_smooth_curves_have_no_phase_transition(offset, correlation):
    """Fewer than 5 of 100 smooth curves may show a transition; the nominal rate is 2 %."""
    generator = np.random.default_rng(1)
    is_shown = [strongest_kink(*power_law(generator, 0.03, offset, correlation)).p < SIGNIFICANCE for _ in range(100)]
    assert sum(is_shown) < 5


def test_a_planted_kink_is_found_where_it_is():
    generator = np.random.default_rng(2)
    kinks = []
    for _ in range(20):
        x = np.linspace(1, 50, 50)
        y = -0.2 * np.log(x) - 1.2 * np.maximum(np.log(x / 12), 0) + generator.normal(0, 0.03, 50)
        kinks.append(strongest_kink(x, y))
    assert sum(kink.p < SIGNIFICANCE for kink in kinks) >= 18
    assert np.median([kink.x for kink in kinks]) == pytest.approx(12, rel=0.25)
    assert np.median([kink.change for kink in kinks]) == pytest.approx(-1.2, rel=0.3)


def test_transitions_need_points(make_run):
    assert transitions(make_run([0, 10, 20], lambda *_: np.full((4, 20), 4.0))).verdict == "unknown"


def test_the_phases_of_the_learning_rate(make_run):
    def record(step):
        rate = 1e-3 * min(step / 500, 1) * (1 if step <= 500 else 0.5 * (1 + np.cos(np.pi * (step - 500) / 4500)))
        return {"step": step, "tokens_seen": 2048 * step, "loss": 12 - np.log(step), "lr": rate}

    metrics = [{**record(step), "lr": max(record(step)["lr"], 1e-6)} for step in range(10, 5001, 10)]
    finding = learning_rate(curve(make_run, lambda _: 80, metrics=metrics))
    assert [row["phase"] for row in finding.rows] == ["warm-up", "cosine 1/3", "cosine 2/3", "cosine 3/3"]
    assert all(row["slope"] == pytest.approx(-1, abs=1e-6) for row in finding.rows)
    assert learning_rate(curve(make_run, lambda _: 80, name="silent")).verdict == "unknown"


def test_intervals_of_slopes_cover_the_truth_for_correlated_neighbors():
    generator = np.random.default_rng(3)
    x = np.arange(60.0)
    for correlation in (0.0, 0.5):
        missed = 0
        for _ in range(400):
            noise = generator.normal(0, 1, 160)
            for index in range(1, 160):
                noise[index] += correlation * noise[index - 1]
            slope = fit_slope(x, 0.02 * x + noise[-60:])
            missed += not slope.low < 0.02 < slope.high
        assert missed <= 40  # 10 %; an interval for independent points misses 25 % at a correlation of 0.5


@pytest.mark.parametrize("count", [6, 10, 15, 26, 50])
def test_few_correlated_points_rarely_show_a_slope(count):
    """At most 5 % of curves without a slope show one, although their neighbors have a correlation of 0.5.

    The limit is three standard errors above. If points were taken as independent, 14 to 24 % would show a slope.
    """
    generator = np.random.default_rng([21, count])
    x, missed = np.arange(float(count)), 0
    for _ in range(1000):
        own = generator.normal(0, 1, count + 45)
        for index in range(1, count + 45):
            own[index] += 0.5 * own[index - 1]
        slope = fit_slope(x, own[-count:])
        missed += not slope.low < 0 < slope.high
    assert missed <= 70


def test_quantiles_of_student():
    scipy_stats = pytest.importorskip("scipy.stats")
    for degrees in (1, 2, 5, 10, 11, 30, 200, 10_000):
        for tail in (0.025, 0.025 / 4):
            expected = scipy_stats.t.ppf(1 - tail, degrees)
            assert t_quantile(degrees, tail) == pytest.approx(expected, rel=2e-3), (degrees, tail)


def bare_record(values, *, losses=(), name="selection_ppl"):
    """Make a run without files: a validation figure every 100 steps, losses with a warm-up and a cosine every 10."""
    evaluations = tuple(
        RecordedEvaluation(
            summary=Summary({"step": 100 * index, "tokens_seen": 204_800 * index, name: value}), directory=Path("none")
        )
        for index, value in enumerate(values)
    )
    metrics = [
        {"tokens_seen": 20_480 * step, "loss": loss, "lr": min(step / 25, 1) * (0.55 + 0.45 * np.cos(step / 160))}
        for step, loss in enumerate(losses, start=1)
    ]
    return Record(
        name="bare", path=Path("none"), is_legacy=False, model="ttt-linear", window=64, metadata={},
        evaluations=evaluations, metrics=metrics, unknown=(),
    )  # fmt: skip


def share(verdicts):
    return sum(verdicts) / len(verdicts)


def test_curves_without_a_plateau_rarely_show_one():
    """All 200 curves fall by 3 % per tenth of the run until the end, with the noise of a small evaluation."""
    generator = np.random.default_rng(12)
    step = np.arange(51)
    verdicts = [convergence(bare_record(80 * np.exp(-0.03 * step / 5 + generator.normal(0, 0.01, 51)))).verdict
                for _ in range(200)]  # fmt: skip
    assert share([verdict == "plateau" for verdict in verdicts]) < 0.05
    assert share([verdict == "falling" for verdict in verdicts]) > 0.5


def test_a_plateau_in_noise_is_usually_found():
    generator = np.random.default_rng(13)
    step = np.arange(51)
    curve = np.log(80) + 2 * np.maximum(0, 1 - step / 15)
    verdicts = [convergence(bare_record(np.exp(curve + generator.normal(0, 0.003, 51)))).verdict for _ in range(50)]
    assert share([verdict == "plateau" for verdict in verdicts]) > 0.9


def test_a_loss_without_a_trend_rarely_shows_one():
    generator = np.random.default_rng(14)
    verdicts = [training_loss(bare_record([9.0], losses=generator.normal(4, 0.1, 400))).verdict for _ in range(300)]
    assert share([verdict == "falling" for verdict in verdicts]) < 0.05
    assert share([verdict == "rising" for verdict in verdicts]) < 0.05


def test_a_flat_loss_has_no_fastest_phase():
    """Four phases are tested; with intervals for single phases, 15 of 100 flat losses would have a fastest one."""
    generator = np.random.default_rng(15)
    verdicts = [learning_rate(bare_record([9.0], losses=generator.normal(4, 0.1, 400))).verdict for _ in range(300)]
    assert share([verdict != "undecided" for verdict in verdicts]) < 0.05


def test_the_phase_in_which_the_loss_falls_fastest_is_found():
    generator = np.random.default_rng(16)
    step = np.arange(1, 401)
    planted = 6 - 1.5 * np.clip((step - 150) / 125, 0, 1)  # the second third of what follows the warm-up
    findings = [learning_rate(bare_record([9.0], losses=planted + generator.normal(0, 0.1, 400))) for _ in range(20)]
    assert {finding.verdict for finding in findings} == {"cosine 2/3"}


def test_the_earlier_runs_stop_where_a_replay_of_fifty_checkpoints_says(shared):
    """The earlier system's study gives 88k without state passing, and 24k by the mean with it."""
    root = shared / "data" / "legacy_runs"
    for name, key, expected in (
        ("length_gen_study_w64_500ckpt_no_sp", "ttt_ppl_at_1xW", 88_000),
        ("length_gen_study_w64_500ckpt", "ttt_ppl_mean", 24_000),
    ):
        chosen = load(find_run(root / name)).evaluations[::10]
        values = np.array([item.summary.value(key) for item in chosen])
        stop = stop_index(values, np.linspace(0, 1, 51), delta=0.01, relative=False, least=0.0, patience=10)
        assert chosen[stop].step == expected


def test_plateau_of_a_flat_curve_starts_at_its_beginning():
    x = np.arange(1.0, 51)
    assert plateau_start(x, np.full(50, 80.0)) == 0
