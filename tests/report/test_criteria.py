"""The one list of success criteria: each answer follows from the figures, and both documents show the same list."""

from __future__ import annotations

import dataclasses
import html
import re

import pytest

from tests.analyze.conftest import make_run as make_record  # noqa: F401 - a fixture
from tests.analyze.test_contexts import planted
from tests.report.made_up import write_run
from tttkit.analyze.findings import find
from tttkit.analyze.record import load
from tttkit.report.criteria import criteria
from tttkit.report.write import write_report
from tttkit.results.summary import Summary
from tttkit.run.directory import find_run

ENDED = "training ended as planned"
WINS = "the full context beats every windowed context at 20 x W"
HOLDS_UP = "perplexity at 20 x W stays within 5 % of 1 x W"
UNIGRAM = "perplexity is below that of the unigram model"


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", 2)


def answers(record, state="finished") -> dict[str, str]:
    return {item.name: item.verdict for item in criteria(record, find(record), state)}


def with_last(run, **values):
    """Return the record of a run after changing these values of its last summary."""
    *before, last = run.read_summaries()
    Summary.write_all(run.summaries, [*before, last.with_values(**values)])
    return load(run)


def test_both_documents_show_the_same_list(run, tmp_path):
    (results, page), findings = write_report(run, tmp_path / "out")
    record = load(run)
    expected = [(item.name, item.verdict, item.evidence) for item in criteria(record, findings, "unknown")]
    table = re.search(r'id="criteria">.*?</table>', page.read_text())[0]
    rows = re.findall(r'<tr><td>(.*?)</td><td><span class="(.*?)">.*?</span></td><td>(.*?)</td></tr>', table)
    assert [tuple(map(html.unescape, row)) for row in rows] == expected
    section = results.read_text().split("## Success criteria\n\n")[1].split("\n\n## ")[0]
    marks = {"[x]": "yes", "[ ]": "no", "[ ] (unknown)": "unknown"}
    listed = [re.fullmatch(r"- (\[.\](?: \(unknown\))?) (.*)", line) for line in section.splitlines()]
    texts = [(marks[match[1]], match[2]) for match in listed]
    assert texts == [(verdict, f"{name[0].upper()}{name[1:]}: {evidence}") for name, verdict, evidence in expected]
    assert len(expected) == 14


def test_a_win_needs_every_interval(run):
    bounds = {f"{prefix}ratio_ci_{side}_at_20xW": 1.01 if side == "low" else 1.2
              for prefix in ("", "sw_aligned_", "reset_") for side in ("low", "high")}  # fmt: skip
    ratios = {f"{prefix}ratio_at_20xW": 1.1 for prefix in ("", "sw_aligned_", "reset_")}
    record = with_last(run, **ratios, **bounds)
    few = next(item for item in criteria(record, find(record), "finished") if item.name == WINS)
    assert (few.verdict, few.evidence.partition(",")[0]) == ("unknown", "only 4 sequences")
    ratios["num_sequences"] = 16
    assert answers(with_last(run, **ratios, **bounds))[WINS] == "yes"
    assert answers(with_last(run, **ratios, **{**bounds, "reset_ratio_ci_low_at_20xW": 0.99}))[WINS] == "unknown"
    ahead = {"reset_ratio_at_20xW": 0.92, "reset_ratio_ci_low_at_20xW": 0.9, "reset_ratio_ci_high_at_20xW": 0.95}
    assert answers(with_last(run, **{**ratios, **bounds, **ahead}))[WINS] == "no"
    assert answers(with_last(run, **ratios, **{**bounds, "reset_ratio_ci_low_at_20xW": None}))[WINS] == "unknown"


@pytest.mark.parametrize(("far", "answer"), [(41.0, "yes"), (43.0, "no")])
def test_perplexity_holds_up_within_five_per_cent(run, far, answer):
    assert answers(with_last(run, ttt_ppl_at_1xW=40.0, ttt_ppl_at_20xW=far))[HOLDS_UP] == answer


@pytest.mark.parametrize(("above", "answer"), [(1, "yes"), (-1, "no"), (None, "unknown")])
def test_a_run_must_beat_the_unigram_model(run, above, answer):
    record = load(run)
    unigram = None if above is None else record.evaluations[-1].summary.selection_ppl + above
    assert answers(dataclasses.replace(record, metadata={"result": {"unigram_ppl": unigram}}))[UNIGRAM] == answer


@pytest.mark.parametrize(("skipped", "answer"), [(0, "yes"), (2, "no"), (None, "unknown")])
def test_updates_that_were_skipped_count(run, skipped, answer):
    last = {"step": 200} if skipped is None else {"step": 200, "num_skipped": skipped}
    assert answers(dataclasses.replace(load(run), metrics=[last]))["every update was finite"] == answer


@pytest.mark.parametrize(
    ("reason", "ended", "early"),
    [("finished", "yes", "no"), ("early-stopped", "yes", "yes"), ("nan-stopped", "no", "unknown")],
)
def test_the_end_is_the_one_that_the_run_recorded(run, reason, ended, early):
    record = dataclasses.replace(load(run), metadata={"result": {"reason": reason, "step": 1234}})
    items = {item.name: item for item in criteria(record, find(record), reason)}
    assert (items[ENDED].verdict, items[ENDED].evidence) == (ended, f"{reason} at step 1,234")
    assert items["early stopping ended the training"].verdict == early


@pytest.mark.parametrize(("state", "answer"), [("crashed", "no"), ("running", "no"), ("unknown", "unknown")])
def test_a_run_without_an_end_is_judged_by_its_status(run, state, answer):
    assert answers(load(run), state)[ENDED] == answer


def test_thresholds_and_evaluations(make_record):  # noqa: F811
    record = make_record([0, 100, 200, 300], planted(lambda context, _, c: 0.5 if c > 5 else 0.0))
    verdicts = answers(record)
    assert verdicts["perplexity at 1 x W fell below 100"] == "yes"
    assert verdicts["every planned evaluation was made"] == "yes"
    config = {**record.config, "evaluation": {"num_checkpoints": 5}}
    fewer = dataclasses.replace(record, metadata={**record.metadata, "config": config})
    assert answers(fewer)["every planned evaluation was made"] == "no"


def test_a_threshold_that_was_passed_counts_though_the_run_ends_above_it(make_record):  # noqa: F811
    def nll(context, step, generator):
        return planted(lambda *_: 0.0)(context, step, generator) + (step == 300)

    record = make_record([0, 100, 200, 300], nll)
    below = {item.name: item for item in criteria(record, find(record), "finished")}[
        "perplexity at 1 x W fell below 100"
    ]
    best, last = (record.evaluations[index].summary.selection_ppl for index in (0, -1))
    assert best < 100 < last < 200
    assert (below.verdict, below.evidence) == ("yes", f"best {best:,.2f}, last {last:,.2f} (selection_ppl)")


@pytest.mark.parametrize("name", ["length_gen_study_w64_500ckpt_no_sp", "long_training_wt103"])
def test_no_win_is_known_for_an_earlier_run(shared, name):
    verdicts = answers(load(find_run(shared / "data" / "legacy_runs" / name)), "unknown")
    assert verdicts[ENDED] == verdicts[WINS] == "unknown"
