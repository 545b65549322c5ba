"""A trial: its configuration and the options of its `tttkit train`."""

from __future__ import annotations

import math

import pytest

from tttkit.errors import UsageError
from tttkit.storage import files
from tttkit.sweep.study import Setting, Study
from tttkit.sweep.trials import Trial


def test_a_varied_preset_takes_the_place_of_the_base(tmp_path):
    study = Study(base="quick", vary={"preset": ["quick-mamba2", "quick-sw"]}, fixed={"train.max_steps": 3})
    trials = [Trial(study, tmp_path, Setting({"preset": name}), 1) for name in study.vary["preset"]]
    assert [trial.config().model.architecture for trial in trials] == ["mamba2", "sw"]
    assert [trial.config().train.max_steps for trial in trials] == [3, 3]
    assert Trial(study, tmp_path, trials[0].setting, 7).config().train.seed == 7
    options = trials[0].options(3)
    assert options[options.index("--preset") + 1] == "quick-mamba2"
    assert options[options.index("--threads") + 1] == "3"


def test_an_unknown_varied_preset_is_named_with_its_setting(tmp_path):
    study = Study(vary={"preset": ["quick-mamba"]})
    with pytest.raises(UsageError, match="the setting preset = quick-mamba: unknown preset `quick-mamba`") as error:
        Trial(study, tmp_path, Setting({"preset": "quick-mamba"}), 1).config()
    assert "did you mean `quick-mamba2`?" in str(error.value.hint)


def test_evaluations_without_a_finite_objective_are_left_out(tmp_path):
    trial = Trial(Study(seeds=[1, 2]), tmp_path, Setting({}), 1)
    assert trial.evaluations() == {}, "it has not begun"
    trial.run.path.mkdir(parents=True)
    values = {5: 2.0, 10: None, 15: math.inf, 20: math.nan, 25: 3}
    files.write_json(trial.run.summaries, [{"step": step, "selection_ppl": value} for step, value in values.items()])
    assert trial.evaluations() == {5: 2.0, 25: 3.0}
