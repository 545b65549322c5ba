"""`Study`: what a study varies, read from its TOML file. docs/studies.md explains the file. Imports no torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from tttkit.config.layers import load_toml
from tttkit.config.run import known_key
from tttkit.errors import UsageError

MODEL_KEY = "model"
"""Varies the model by its name, as `tttkit train --model` does."""
PRESET_KEY = "preset"
"""Varies the preset; then `base` is not used."""
SEED_KEY = "train.seed"
MOST_TRIALS = 10_000
_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Range:
    """A range of numbers from which `random` and `tpe` choose."""

    low: float
    """Smallest value."""
    high: float
    """Largest value."""
    log: bool = False
    """Choose evenly on a logarithmic scale."""
    whole: bool = False
    """Choose whole numbers."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Study:
    """A base configuration, the values that are varied, the search, the seeds and the objective."""

    base: str = "quick"
    """Preset of every trial, unless `preset` is varied."""
    config: str | None = None
    """TOML file with a configuration of every trial, from the folder of the study's file."""
    data: str | None = None
    """DATA directory of every trial, from the folder of the study's file."""
    search: Literal["grid", "random", "tpe"] = "grid"
    """How settings are chosen: all combinations, at random, or by the results so far (Optuna's TPE)."""
    trials: int = 20
    """Number of settings that `random` and `tpe` try."""
    seeds: list[int] = dataclasses.field(default_factory=lambda: [42])
    """Every setting is trained once with each seed."""
    objective: str = "selection_ppl"
    """A key of summary.json; its value at the last evaluation of a run counts."""
    goal: Literal["minimize", "maximize"] = "minimize"
    """Which values of the objective are better."""
    prune: Literal["none", "median"] = "none"
    """Stop runs whose best objective so far is worse than the median of other runs at the same evaluation."""
    prune_after: float = 0.3
    """Share of a run's steps before which it is not pruned."""
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Values of every trial, by `section.key`."""
    vary: dict[str, list[Any] | Range] = dataclasses.field(default_factory=dict)
    """Values that are varied, by `section.key`, `model` or `preset`: a list, or a range `{low, high, log, whole}`."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One choice of the varied values, by key."""

    values: dict[str, Any]

    def digest(self, study: Study) -> str:
        """Return eight characters that are different for every other setting, base or fixed value."""
        content = [study.base, study.config, study.data, study.fixed, self.values]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def read_study(path: Path) -> Study:
    """Read and check the TOML file of a study; paths in it become absolute. Raises UsageError."""
    values = load_toml(path)
    for name in ("config", "data"):
        if isinstance(values.get(name), str):
            values[name] = str((path.resolve().parent / values[name]).resolve())
    return study_of(values, str(path))


def study_of(values: dict[str, Any], where: str) -> Study:
    """Check the values of a study; messages call it `where`. Raises UsageError."""
    try:
        study = Study(**values)
    except (ValidationError, TypeError) as error:
        raise UsageError(f"{where}: {_first_mistake(error)}", hint="docs/studies.md shows a study") from error
    _check_keys(study, where)
    _check_values(study, where)
    return study


def _first_mistake(error: ValidationError | TypeError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}"


def _check_keys(study: Study, where: str) -> None:
    if not study.vary and len(study.seeds) < 2:
        raise UsageError(f"{where}: a study needs `vary`, or at least two seeds")
    if PRESET_KEY in study.fixed:
        raise UsageError(f"{where}: the preset of every trial is `base`, not in `fixed`")
    for key in (*study.fixed, *study.vary):
        if key == SEED_KEY:
            raise UsageError(f"{where}: {SEED_KEY} is set by `seeds`")
        if key not in (MODEL_KEY, PRESET_KEY):
            known_key(key)
    if both := study.fixed.keys() & study.vary.keys():
        raise UsageError(f"{where}: {min(both)} is both in `fixed` and in `vary`")


def _check_values(study: Study, where: str) -> None:
    if not 1 <= study.trials <= MOST_TRIALS:
        raise UsageError(f"{where}: trials must be 1 to {MOST_TRIALS:,}, got {study.trials}")
    if not study.seeds or len(set(study.seeds)) != len(study.seeds):
        raise UsageError(f"{where}: seeds must be different numbers, at least one")
    if not 0.0 <= study.prune_after < 1.0:
        raise UsageError(f"{where}: prune_after must be from 0 to below 1, got {study.prune_after:g}")
    for key, choices in study.vary.items():
        if isinstance(choices, Range):
            if study.search == "grid":
                raise UsageError(
                    f"{where}: {key} is a range, and a grid needs lists", hint='search = "random" or "tpe"'
                )
            if choices.low >= choices.high or (choices.log and choices.low <= 0):
                raise UsageError(f"{where}: {key}: low must be below high, and above 0 on a logarithmic scale")
        elif not choices:
            raise UsageError(f"{where}: {key} has no values")
        elif len({json.dumps(value, sort_keys=True) for value in choices}) != len(choices):
            raise UsageError(f"{where}: {key} names a value twice")
    if study.search == "grid":
        count = math.prod(len(choices) for choices in study.vary.values() if isinstance(choices, list))
        if count > MOST_TRIALS:
            raise UsageError(f"{where}: the grid has {count:,} settings, at most {MOST_TRIALS:,} are possible")
