"""A trial: its configuration and the options of its `tttkit train`."""

from __future__ import annotations

import pytest

from tttkit.errors import UsageError
from tttkit.sweep.study import Setting, Study
from tttkit.sweep.trials import Trial


def test_a_varied_preset_takes_the_place_of_the_base(tmp_path):
    study = Study(base="quick", vary={"preset": ["quick-mamba2", "quick-sw"]}, fixed={"train.max_steps": 3})
    trials = [Trial(study, tmp_path, Setting({"preset": name}), 1) for name in study.vary["preset"]]
    assert [trial.config().model.architecture for trial in trials] == ["mamba2", "sw"]
    assert [trial.config().train.max_steps for trial in trials] == [3, 3]
    options = trials[0].options(3)
    assert options[options.index("--preset") + 1] == "quick-mamba2"
    assert options[options.index("--threads") + 1] == "3"


def test_an_unknown_varied_preset_is_named_with_its_setting(tmp_path):
    study = Study(vary={"preset": ["quick-mamba"]})
    with pytest.raises(UsageError, match="the setting preset = quick-mamba: unknown preset `quick-mamba`") as error:
        Trial(study, tmp_path, Setting({"preset": "quick-mamba"}), 1).config()
    assert "did you mean `quick-mamba2`?" in str(error.value.hint)
