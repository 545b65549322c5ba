"""report.html of a study, made from runs whose results are known."""

from __future__ import annotations

import re

import pytest

from tttkit.config.run import build_config
from tttkit.errors import UsageError
from tttkit.report.study import is_study, write_study_report
from tttkit.run.pruned_file import Pruned, write_pruned
from tttkit.storage import files
from tttkit.sweep.driver import prepare_directory
from tttkit.sweep.search import search_of
from tttkit.sweep.study import study_of
from tttkit.sweep.trials import trials_of

VALUES = {
    "seeds": [1, 2],
    "fixed": {"train.max_steps": 10, "early_stopping.enabled": False},
    "vary": {"model": ["ttt-linear", "sw"], "optimizer.learning_rate": [0.001, 0.003]},
}
OBJECTIVES = {
    ("ttt-linear", 0.001): (10.0, 20.0),
    ("ttt-linear", 0.003): (11.0, 22.0),
    ("sw", 0.001): (5.0, 11.0),
    ("sw", 0.003): (6.0, None),
}


def make_study(directory, values, objectives):
    """Write a study whose runs have ended with these objectives; None is a run that was stopped."""
    study = study_of(values, "study")
    prepare_directory(directory, values)
    for setting in search_of(study, directory).settings():
        for trial, objective in zip(
            trials_of(study, directory, setting), objectives[tuple(setting.values.values())], strict=True
        ):
            run = trial.run
            run.path.mkdir(parents=True)
            reason = "stopped" if objective is None else "finished"
            result = {} if objective is None else {"result": {"reason": reason}}
            segments = [{"started": "2026-01-01T00:00:00+00:00", "start_step": 0, "end_step": 10, "reason": reason}]
            config = build_config({}).to_dict()
            files.write_json(run.metadata, {"schema_version": 2, "config": config, "segments": segments, **result})
            if objective is not None:
                files.write_json(run.summaries, [{"step": 10, "selection_ppl": objective}])
    return directory


def words(path):
    """Return the text of a page without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", path.read_text().partition("<body>")[2]))


def test_the_page_says_what_was_varied_what_is_best_and_what_was_not_run(tmp_path):
    directory = make_study(tmp_path / "rates<b>", VALUES, OBJECTIVES)
    assert is_study(directory)
    path, figures = write_study_report(directory, tmp_path / "out")
    text = words(path)
    assert "The best setting is model = sw, optimizer.learning_rate = 0.001: selection_ppl 7.42 [" in text
    # sw with 0.003 has a lower mean, but of one seed only; the next one is 5 / 10 and 11 / 20
    assert "Its ratio to the next setting, model = ttt-linear, optimizer.learning_rate = 0.001, is 0.524 [" in text
    assert "over pairs of runs with the same seed; the interval does not contain 1" in text
    assert "model = sw against ttt-linear" in text
    assert "train.max_steps = 10, early_stopping.enabled = false" in text
    assert "model = sw, optimizer.learning_rate = 0.003, seed 2: " in text
    assert "7 of 8 runs have ended" in text
    assert 'src="data:image/png;base64,' in path.read_text()
    assert "<b>" not in path.read_text(), "the name of a study is text"
    by_value = {(item["factor"], item["value"]): item for item in figures["effects"]}
    assert by_value["model", "sw"]["pairs"] == 3
    assert by_value["optimizer.learning_rate", 0.003]["ratio"] == pytest.approx((1.1 * 1.1 * 1.2) ** (1 / 3))


def test_a_pruned_run_is_shown_with_its_figures_and_its_setting_has_no_mean(tmp_path):
    directory = make_study(tmp_path / "rates", VALUES, {**OBJECTIVES, ("sw", 0.001): (5.0, None)})
    (setting,) = [
        setting
        for setting in search_of(study_of(VALUES, ""), directory).settings()
        if list(setting.values.values()) == ["sw", 0.001]
    ]
    run = trials_of(study_of(VALUES, ""), directory, setting)[1].run
    write_pruned(run, Pruned(step=4, key="selection_ppl", objective=41.0, best=40.0, median=11.0, others=4))
    text = words(write_study_report(directory, tmp_path / "out")[0])
    reason = (
        "pruned at step 4 with selection_ppl 41.00: its best, 40.00, is worse than the median 11.00 of 4 other runs"
    )
    assert f"model = sw, optimizer.learning_rate = 0.001, seed 2: {reason}" in text
    assert "The best setting is model = ttt-linear, optimizer.learning_rate = 0.001: selection_ppl 14.14" in text
    assert "settings with a pruned run count in no mean, effect or trend" in text
    assert "1 finished, 1 pruned at step 4 with 41.00" in text


def test_settings_that_seeds_tell_apart(tmp_path):
    values = {"seeds": [1, 2, 3], "vary": {"model": ["ttt-linear", "sw"]}}
    apart = make_study(tmp_path / "apart", values, {("ttt-linear",): (10.0, 20.0, 30.0), ("sw",): (9.0, 18.1, 27.0)})
    assert "the interval does not contain 1" in words(write_study_report(apart, apart)[0])
    close = make_study(tmp_path / "close", values, {("ttt-linear",): (10.0, 20.0, 30.0), ("sw",): (9.0, 22.0, 27.0)})
    text = words(write_study_report(close, close)[0])
    assert "the interval contains 1, so the two are not told apart" in text
    assert "Every setting was run with every seed." in text


def test_a_study_without_results(tmp_path):
    values = {"vary": {"model": ["ttt-linear", "sw"]}}
    directory = make_study(tmp_path / "none", values, {("ttt-linear",): (None,), ("sw",): (None,)})
    text = words(write_study_report(directory, directory)[0])
    assert "No run has ended yet." in text
    assert "No two runs that differ in one value have ended yet." in text


def test_ranges_have_a_trend(tmp_path):
    values = {
        "search": "random", "trials": 12, "seeds": [1],
        "vary": {"optimizer.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
    }  # fmt: skip
    study = study_of(values, "study")
    settings = [tuple(s.values.values()) for s in search_of(study, tmp_path).settings()]
    directory = make_study(tmp_path / "ranges", values, {setting: (1.0 + setting[0],) for setting in settings})
    path, figures = write_study_report(directory, directory)
    (trend,) = figures["trends"]
    assert trend["correlation"] == pytest.approx(1.0)
    assert trend["interval"][0] > 0.9
    assert "0.0001 to 0.01, logarithmic" in words(path)
    assert "one seed cannot say whether the difference is real" in words(path)
    assert "the search random chose 12 settings" in words(path)


def test_a_study_that_cannot_be_read_is_named(tmp_path):
    files.write_json(tmp_path / "study.json", {"vary": {"train.nothing": [1]}})
    with pytest.raises(UsageError, match="nothing"):
        write_study_report(tmp_path, tmp_path)
