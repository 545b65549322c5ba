"""Winners, crossovers and policies: planted answers are found, curves with none give none."""

from __future__ import annotations

import numpy as np
import pytest

from tttkit.analyze import contexts, crossover, training
from tttkit.analyze.intervals import bootstrap
from tttkit.analyze.winner import PairedRatio, name_winner

STEPS = [0, 500, 1000, 1500, 2000]


def planted(effect, noise=0.3, num_sequences=64):
    """Make NLL whose windowed contexts lie above `full` by effect(context, step, chunk); all share the text."""

    def nll(context, step, generator):
        text = np.random.default_rng(99).gamma(20, 0.2, (num_sequences, 20))
        if context == "full":
            return text
        chunk = np.arange(20)
        own = generator.normal(0, noise, (num_sequences, 20))
        own[:, 0] = 0
        return text + own + np.array([0.0 if c == 0 else effect(context, step, c) for c in chunk])

    return nll


def by_position(finding):
    return {row["position"]: row["winner"] for row in finding.rows}


def test_full_wins_only_if_it_beats_all_three(make_run):
    record = make_run([100], planted(lambda context, _, c: 0.3 if c < 4 else 0.3 if context == "sw" else 0.0))
    finding = contexts.winners(record)
    winners = by_position(finding)
    assert finding.verdict == "2xW full, 5xW none, 10xW none, 20xW none"
    assert "1 x W" not in finding.statement
    assert winners == {"1 x W": "equal by construction", "2 x W": "full", "5 x W": "no difference found",
                       "10 x W": "no difference found", "20 x W": "no difference found"}  # fmt: skip


def test_the_best_of_the_windowed_contexts_is_named(make_run):
    effects = {"sw": -0.2, "sw_aligned": -0.3, "reset": -0.5}
    record = make_run([100], planted(lambda context, _, c: effects[context] if c >= 9 else 0.0))
    finding = contexts.winners(record)
    assert by_position(finding)["10 x W"] == by_position(finding)["20 x W"] == "reset"
    assert "reset beats full at 10 x W, 20 x W" in finding.statement.replace("Reset", "reset")
    policy = contexts.policy(record)
    assert [row["use"] for row in policy.rows] == ["full", "full", "full", "reset", "reset"]
    assert policy.rows[3]["gain_percent"] == pytest.approx(100 * (np.exp(0.5) - 1), rel=0.25)


@pytest.mark.parametrize(("high", "winner"), [(0.97, "reset"), (0.99, "none"), (1.01, "none")])
def test_the_best_of_several_must_be_below_1_by_a_wider_interval(high, winner):
    """The 0.075 nats from 0.9 to 0.97 widen to 0.095, less than the 0.105 to 1; for 0.99 they widen to 0.121."""
    ratio = PairedRatio(context="reset", ratio=0.9, low=0.8, high=high, document_low=None, document_high=None,
                    num_documents=3)  # fmt: skip
    assert name_winner([ratio]) == winner


def test_the_cheaper_of_equal_contexts_is_named(make_run):
    def nll(context, step, generator):
        same = "reset" if context == "sw_aligned" else context
        return planted(lambda *_: -0.3)(same, step, np.random.default_rng(["full", "sw", "reset"].index(same)))

    assert by_position(contexts.winners(make_run([100], nll)))["20 x W"] == "reset"


def test_few_documents_decide_nothing_and_many_must_agree(make_run):
    def nll(context, step, generator):
        values = planted(lambda *_: 0.0, noise=0.01)(context, step, generator)
        if context != "full":  # two documents of twelve carry the whole difference
            values[:11, 1:] += 0.6
        return values

    few = make_run([100], nll, name="few", num_documents=6)
    many = make_run([100], nll, name="many", num_documents=12)
    assert by_position(contexts.winners(few))["20 x W"] == "full"
    assert "docs [" in contexts.winners(few).rows[-1]["sw/full"]
    assert by_position(contexts.winners(many))["20 x W"] == "no difference found"


def test_crossover_position_is_found_and_bracketed(make_run):
    record = make_run([100], planted(lambda context, _, c: 0.4 if c < 8 else -0.4))
    finding = crossover.crossover_position(record)
    assert finding.verdict == "found"
    assert finding.statement.count("between positions 512 and 576") == 3


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (lambda _, step, c: 0.3 if step < 1200 else -0.3, "persistent"),
        (lambda _, step, c: -0.3 if step == 1000 else 0.3, "excursion"),
        (lambda *_: 0.3, "none"),
    ],
)
def test_crossover_step_persistent_or_excursion(make_run, effect, verdict):
    finding = training.crossover_step(make_run(STEPS, planted(effect)))
    assert finding.verdict == verdict
    if verdict == "persistent":
        assert {row["between_steps"] for row in finding.rows} == {"1,000 … 1,500"}
        assert finding.statement == (
            "There is a persistent crossover against sw, sw_aligned and reset at 2, 5, 10 and 20 x W between steps "
            "1,000 … 1,500. The last significant difference favors sw, sw_aligned and reset over full at 2, 5, 10 and "
            "20 x W."
        )
    else:
        assert "reset over full" not in finding.statement
        start = "There is an excursion against sw, sw_aligned and reset at 2, 5, 10 and 20 x W between steps "
        assert finding.statement.startswith(start if verdict == "excursion" else "No crossover is shown ")
        assert "favors full over sw, sw_aligned and reset at 2, 5, 10 and 20 x W." in finding.statement


def test_simultaneous_bands_show_no_false_difference_in_95_of_100_searches():
    """About 3 of 60 searches in 57 columns without a difference may show one; with single intervals most would."""
    generator = np.random.default_rng(4)
    searches = [bootstrap(generator.normal(0, 0.3, (64, 57))) for _ in range(60)]
    assert sum(bool(each.sign(simultaneous=True).any()) for each in searches) <= 8
    assert sum(bool(each.sign(simultaneous=False).any()) for each in searches) > 45


@pytest.mark.parametrize("effect", [0.0, 0.3])
def test_contexts_that_never_cross_have_no_crossover(make_run, effect):
    """Search 30 runs of five evaluations, without a difference or with the same difference everywhere."""
    verdicts = []
    for seed in range(30):

        def nll(context, step, _, seed=seed):
            return planted(lambda *_: effect)(context, step, np.random.default_rng([seed, step, len(context)]))

        record = make_run(STEPS, nll, name=f"run{seed}")
        verdicts.append((training.crossover_step(record).verdict, crossover.crossover_position(record).verdict))
    assert sum(step != "none" for step, _ in verdicts) <= 1
    assert sum(position != "none" for _, position in verdicts) <= 1


def test_without_a_difference_a_winner_is_rarely_named_at_a_position(make_run):
    """A winner is named at fewer than 5 % of 60 x 4 positions, although the best of three contexts is chosen at each.

    With a separate 95 % interval for each context, 17 positions would have a winner.
    """
    named = []
    for seed in range(60):
        record = make_run([100], planted(lambda *_: 0.0), name=f"run{seed}", seed=300 + seed)
        named += [row["winner"] for row in contexts.winners(record).rows[1:]]
    assert named.count("full") == 0
    assert sum(winner != "no difference found" for winner in named) < 0.05 * len(named)


def test_the_gap_of_a_model_that_holds_up_has_no_trend(make_run):
    def nll(context, step, generator):
        return np.random.default_rng(step + 1).normal(4, 0.05, (16, 20)) + 0 * generator.random()

    finding = training.generalisation_gap(make_run(list(range(0, 4001, 100)), nll))
    assert finding.verdict == "steady or undecided"


def test_the_gap_and_its_trend(make_run):
    def nll(context, step, generator):
        text = np.random.default_rng(7).normal(4, 0.2, (64, 1)) + np.random.default_rng(8).normal(0, 0.02, (64, 20))
        return text + np.linspace(0, step / 1000, 20) + 0 * generator.random()

    finding = training.generalisation_gap(make_run(list(range(0, 2001, 100)), nll))
    last = finding.rows[-1]
    assert (finding.verdict, last["position"]) == ("widening", "20 x W")
    assert last["low"] < np.exp(2.0) < last["high"]


def test_without_nll_by_sequence_no_winner_is_named(make_run):
    record = make_run([0, 100], planted(lambda *_: 0.5))
    for item in record.evaluations:
        (item.directory / "chunk_nll.safetensors").unlink()
    for finding in (contexts.winners(record), contexts.policy(record), training.crossover_step(record)):
        assert finding.verdict == "unknown"
    assert contexts.winners(record).rows[1]["sw/full"].endswith("[no interval]")


def test_without_nll_by_sequence_the_intervals_of_the_summary_decide(make_run):
    """The summary is all that is left if only the JSON files were kept."""
    bounds = {"ci": (0.7, 0.8), "document_ci": (0.6, 0.9)}
    kept = {f"reset_ratio_{which}_{end}_at_20xW": value for which, pair in bounds.items()
            for end, value in zip(("low", "high"), pair, strict=True)}  # fmt: skip
    record = make_run([100], planted(lambda *_: 0.0), num_documents=12, reset_ratio_at_20xW=0.75, **kept)
    (record.evaluations[0].directory / "chunk_nll.safetensors").unlink()
    finding = contexts.winners(record)
    assert finding.verdict == "20xW reset"
    assert by_position(finding)["10 x W"] == "unknown"
    assert finding.rows[-1]["reset/full"] == "0.750 [0.700, 0.800] docs [0.600, 0.900]"
    assert contexts.policy(record).rows[-1]["use"] == "reset"
