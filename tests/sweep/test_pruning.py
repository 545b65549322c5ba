"""The median rule, against figures worked out by hand."""

from __future__ import annotations

import pytest

from tttkit.storage import files
from tttkit.sweep.pruning import FEWEST_OTHERS, Pruning, worse_than_median
from tttkit.sweep.study import Setting, Study
from tttkit.sweep.trials import Trial

OTHERS = [{10: 1.0}, {10: 2.0}, {10: 4.0}, {10: 5.0}]


def test_a_run_worse_than_the_median_at_its_step_is_pruned():
    pruned = worse_than_median(Study(), {5: 9.0, 10: 3.1}, OTHERS)
    assert (pruned.step, pruned.objective, pruned.best, pruned.median, pruned.others) == (10, 3.1, 3.1, 3.0, 4)
    assert worse_than_median(Study(), {5: 9.0, 10: 3.0}, OTHERS) is None
    # the best so far counts
    assert worse_than_median(Study(), {5: 2.9, 10: 8.0}, OTHERS) is None
    best = Study(goal="maximize")
    assert worse_than_median(best, {5: 1.0, 10: 2.9}, OTHERS).best == 2.9
    assert worse_than_median(best, {5: 3.1, 10: 1.0}, OTHERS) is None


def test_other_steps_and_too_few_runs_say_nothing():
    assert worse_than_median(Study(), {10: 9.0}, OTHERS[1:]) is None
    assert worse_than_median(Study(), {9: 9.0}, OTHERS) is None
    assert len(OTHERS) == FEWEST_OTHERS


@pytest.mark.parametrize(("step", "is_pruned"), [(0, False), (29, False), (30, True), (99, True), (100, False)])
def test_a_run_is_judged_after_the_warm_up_and_before_its_end(tmp_path, step, is_pruned):
    study = Study(fixed={"train.max_steps": 100}, vary={"train.window": [16, 32, 48, 64, 80]}, prune="median")
    trials = [Trial(study, tmp_path, Setting({"train.window": each}), 1) for each in (16, 32, 48, 64, 80)]
    for trial in trials:
        trial.run.path.mkdir(parents=True)
        value = 9.0 if trial is trials[0] else 1.0
        summaries = [
            {"step": 0, "selection_ppl": 10.0},
            {"step": step, "selection_ppl": value},
            {"step": step + 1, "selection_ppl": None},
        ]
        files.write_json(trial.run.summaries, summaries)
    pruning = Pruning(study)
    assert (pruning.judge(trials[0], trials[1:]) is not None) == is_pruned
    assert pruning.judge(trials[0], trials[1:]) is None, "every evaluation is judged once"
