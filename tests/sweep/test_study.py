"""The file of a study: what it may hold, and what every mistake in it gets."""

from __future__ import annotations

import dataclasses

import pytest

from tttkit.errors import UsageError
from tttkit.sweep.study import Range, Setting, Study, read_study, study_of


def test_a_study_is_read_with_absolute_paths(tmp_path):
    (tmp_path / "rates.toml").write_text(
        'data = "novels"\nsearch = "tpe"\nseeds = [1, 2]\n[vary]\nmodel = ["ttt-linear", "sw"]\n'
        '"optimizer.learning_rate" = {low = 1e-4, high = 1e-2, log = true}\n'
    )
    study = read_study(tmp_path / "rates.toml")
    assert study.data == str(tmp_path / "novels")
    assert study.vary["optimizer.learning_rate"] == Range(low=1e-4, high=1e-2, log=True)
    assert study_of(dataclasses.asdict(study), "its record") == study


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "needs `vary`, or at least two seeds"),
        ({"vary": {"train.max_stepz": [1]}}, "unknown key `train.max_stepz`"),
        ({"vary": {"train.seed": [1, 2]}}, "train.seed is set by `seeds`"),
        ({"vary": {"train.window": []}}, "train.window has no values"),
        ({"vary": {"train.window": [16]}, "fixed": {"preset": "quick"}}, "the preset of every trial is `base`"),
        ({"vary": {"train.window": [16, 16]}}, "train.window names a value twice"),
        ({"vary": {"train.window": [16]}, "fixed": {"train.window": 16}}, "both in `fixed` and in `vary`"),
        ({"vary": {"train.window": {"low": 1, "high": 2}}}, "a grid needs lists"),
        ({"vary": {"train.window": {"low": 2, "high": 1}}, "search": "random"}, "low must be below high"),
        ({"vary": {"train.window": {"low": 0, "high": 1, "log": True}}, "search": "random"}, "above 0"),
        ({"vary": {"train.window": [16]}, "seeds": [1, 1]}, "seeds must be different"),
        ({"vary": {"train.window": [16]}, "seeds": []}, "at least one"),
        ({"vary": {"train.window": [16]}, "search": "best"}, "search: "),
        ({"vary": {"train.window": [16]}, "trials": 0}, "trials must be 1 to 10,000"),
        ({"vary": {"train.window": [16]}, "trial": 3}, "trial"),
        ({"vary": {"train.window": [16]}, "prune_after": 1.0}, "prune_after must be from 0 to below 1, got 1"),
        ({"vary": {"train.window": [16]}, "prune": "worst"}, "prune: "),
        ({"vary": {"train.window": "16"}}, "vary.train.window"),
        ({"vary": {"train.window": list(range(101)), "train.batch_size": list(range(100))}}, "10,100 settings"),
    ],
)
def test_every_mistake_is_named(values, message):
    with pytest.raises(UsageError, match=message):
        study_of(values, "rates.toml")


def test_the_digest_tells_settings_and_studies_apart():
    study = Study(seeds=[1, 2])
    setting = Setting({"train.window": 16})
    others = [
        Setting({"train.window": 32}).digest(study),
        setting.digest(dataclasses.replace(study, base="novels-100k")),
        setting.digest(dataclasses.replace(study, fixed={"train.max_steps": 3})),
        setting.digest(dataclasses.replace(study, config="/rates/base.toml")),
        setting.digest(dataclasses.replace(study, data="/novels")),
    ]
    assert len({setting.digest(study), *others}) == 6
    first, second = ("train.window", 16), ("model", "sw")
    assert Setting(dict([first, second])).digest(study) == Setting(dict([second, first])).digest(study)
    # more seeds, trials or another objective keep the runs that there are
    more = dataclasses.replace(study, seeds=[1, 2, 3], trials=50, objective="ttt_ppl_at_20xW")
    assert setting.digest(more) == setting.digest(study)
