"""The three sentences that open a report: what wins where, whether training converged, what to do."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from tests.analyze.conftest import make_run  # noqa: F401 - a fixture
from tests.analyze.test_contexts import planted
from tests.report.made_up import write_run
from tttkit.analyze.findings import find
from tttkit.analyze.record import load
from tttkit.report.opening import opening
from tttkit.report.write import write_report
from tttkit.run.directory import find_run


def sentences(record):
    return opening(record, find(record))


def falling(per_step=0.0, wins=None):
    """Make NLL that falls by `per_step` nats every 100 updates in every context; `wins` lies below full."""

    def nll(context, step, generator):
        text = np.random.default_rng(99).gamma(20, 0.2, (64, 20))
        values = text - per_step * step / 100
        if context == "full":
            return values
        gap = generator.normal(-0.5 if context == wins else 0.5, 0.1, (64, 20))
        gap[:, 0] = 0
        return values + gap

    return nll


def with_convergence(record, verdict, **row):
    """Return the findings of a run with another verdict on convergence."""
    findings = find(record)
    convergence = dataclasses.replace(findings["convergence"], verdict=verdict, rows=(row,) if row else ())
    items = [convergence if item.topic == "convergence" else item for item in findings.items]
    return dataclasses.replace(findings, items=tuple(items))


def test_a_context_that_wins_everywhere_is_named_once_with_figures(make_run):  # noqa: F811
    record = make_run([100 * index for index in range(12)], falling(0.01))
    winner, convergence, advice = sentences(record)
    summary = record.evaluations[-1].summary
    full, best = (
        summary.perplexity("full", 20),
        min(summary.perplexity(name, 20) for name in ("sw", "sw_aligned", "reset")),
    )
    assert winner.startswith(
        "On 64 sequences, the full context beats every windowed context at 2, 5, 10 and 20 x W: at 20 x W, perplexity "
        f"is {full:,.2f} with `full` and {best:,.2f} with `"
    )
    assert re.fullmatch(
        r"Training had not converged: validation perplexity ended at [\d.]+ and was still improving by \d+\.\d % per "
        r"10 % of the run \(95 % interval -?\d+\.\d to \d+\.\d\)\.",
        convergence,
    )
    assert advice == "Use `full` at every measured position; train longer, because perplexity was still falling."


def test_a_windowed_context_that_wins_beyond_the_window(make_run):  # noqa: F811
    record = make_run([0, 100], falling(wins="reset"))
    winner, convergence, advice = sentences(record)
    assert winner.startswith("On 64 sequences, `reset` beats the full context at 2, 5, 10 and 20 x W: at 20 x W, ")
    assert winner.endswith(" with `reset`.")
    assert convergence == "It is not known whether training converged, because 2 evaluations are too few to tell."
    assert advice == (
        "Use `full` up to 1 x W and `reset` from 2 x W on; evaluate more often, for example with "
        "`--num-eval-checkpoints 20`."
    )


def test_several_winners_are_grouped(make_run):  # noqa: F811
    def effect(context, _, chunk):
        return 0.5 if chunk < 4 else -0.5 if context == "sw" and chunk > 15 else 0.0

    winner, _, advice = sentences(make_run([0, 100], planted(effect, noise=0.2)))
    assert winner.startswith(
        "On 64 sequences, the full context beats every windowed context at 2 x W, no difference was "
    )
    assert ", and `sw` beats the full context at 20 x W: at 20 x W, perplexity is " in winner
    assert "Use `full` up to 10 x W and `sw` from 20 x W on; " in advice


ROW = {"last": 47.1, "best": 45.2, "improvement_percent": 0.31, "improvement_low": -0.2, "improvement_high": 0.8}


@pytest.mark.parametrize(
    ("verdict", "convergence", "advice"),
    [
        (
            "plateau",
            "Training converged: validation perplexity ended at 47.10 and was improving by only {}.",
            "more steps of the same recipe would gain little.",
        ),
        (
            "rising",
            "Training got worse at the end: validation perplexity ended at 47.10, after a best of 45.20.",
            "take the weights of the best evaluation, and train for fewer steps or with a lower learning rate.",
        ),
        (
            "undecided",
            "It is not clear whether training converged: validation perplexity ended at 47.10 after improving by {}.",
            "train longer or evaluate more often to see whether training has converged.",
        ),
    ],
)
def test_every_end_of_the_curve_has_its_sentence(make_run, verdict, convergence, advice):  # noqa: F811
    record = make_run([0, 100], falling())
    _, second, third = opening(record, with_convergence(record, verdict, **ROW))
    assert second == convergence.format("0.3 % per 10 % of the run (95 % interval -0.2 to 0.8)")
    assert third.endswith(f"; {advice}")


@pytest.mark.parametrize(
    ("metadata", "advice"),
    [
        ({"result": {"reason": "nan-stopped"}}, "; lower the learning rate, because training stopped at a loss"),
        ({"result": {"reason": "preempted"}}, "; let training finish, or resume it with `tttkit resume run`"),
        ({}, "; let training finish, or resume it with `tttkit resume run`"),
    ],
)
def test_the_advice_for_a_run_that_did_not_end_as_planned(make_run, metadata, advice):  # noqa: F811
    record = make_run([0, 100], falling())
    assert advice in sentences(dataclasses.replace(record, metadata={**metadata, "config": record.config}))[2]


def test_without_intervals_no_winner_is_named_and_the_advice_is_to_get_them(make_run):  # noqa: F811
    record = make_run([0, 100], falling())
    for item in record.evaluations:
        (item.directory / "chunk_nll.safetensors").unlink()
    winner, _, advice = sentences(record)
    assert winner.startswith("No winner can be named, because the files hold no intervals: at 20 x W, perplexity is ")
    assert advice.startswith("Run `tttkit eval run run` to get intervals; ")


def test_the_sentences_say_so_if_nothing_is_known(tmp_path):
    """The file holds only means, like some result files of the earlier system."""
    entries = [{"checkpoint_idx": i, "step": 200 * i, "ttt_ppl_mean": 9.0, "sw_ppl_mean": 8.0} for i in range(2)]
    (tmp_path / "w32.json").write_text(str([{**entry, "training_window": 32} for entry in entries]).replace("'", '"'))
    assert sentences(load(find_run(tmp_path / "w32.json"))) == (
        "No winner can be named, because no position beyond the window was measured.",
        "It is not known whether training converged, because 2 evaluations are too few to tell.",
        "Do not prefer any context; repeat the experiment with tttkit, which keeps the figures missing here.",
    )


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("length_gen_study_w64_500ckpt_no_sp", "validation perplexity ended at "),
        ("long_training_wt103", "because 1 evaluation is too few to tell."),
    ],
)
def test_earlier_runs(shared, name, end):
    winner, convergence, advice = sentences(load(find_run(shared / "data" / "legacy_runs" / name)))
    assert winner.startswith("No winner can be named, because the files hold no intervals: at ")
    assert end in convergence
    assert advice.startswith("Do not prefer any context; repeat the experiment with tttkit, ")


def test_both_documents_open_with_the_three_sentences(tmp_path):
    run = write_run(tmp_path / "run", 3)
    (results, page), findings = write_report(run, tmp_path / "out")
    text = " ".join(opening(load(run), findings))
    assert results.read_text().startswith(f"# Curriculum results: run\n\n{text}\n\n")
    assert re.sub("</?code>", "`", page.read_text()).count(f'<p class="opening">{text}</p>') == 1
