"""The complete configuration of a run: a frozen value, validated once at construction. Unknown keys are errors.

`config.sections` has the fields; `train --help` and docs/configuration.md are generated from their docstrings.
`config.layers` collects values, and `config.resolve` adds values that data and machine decide. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from tttkit.config.model import ModelConfig as ModelConfig
from tttkit.config.old_names import present_key, with_present_names
from tttkit.config.sections import SHORTEST_WINDOWS, STRICT
from tttkit.config.sections import DataConfig as DataConfig
from tttkit.config.sections import EarlyStoppingConfig as EarlyStoppingConfig
from tttkit.config.sections import EvaluationConfig as EvaluationConfig
from tttkit.config.sections import OptimizerConfig as OptimizerConfig
from tttkit.config.sections import StageConfig as StageConfig
from tttkit.config.sections import TrainConfig as TrainConfig
from tttkit.errors import UsageError

_SHARE_TOLERANCE = 1e-6


def _model_of_the_data() -> ModelConfig:
    return ModelConfig(vocab_size=0)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Everything that decides what a run computes. A `model.vocab_size` of 0 is taken from the data."""

    preset: str = "quick"
    """The preset that the other values started from."""
    model: ModelConfig = dataclasses.field(default_factory=_model_of_the_data)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    early_stopping: EarlyStoppingConfig = dataclasses.field(default_factory=EarlyStoppingConfig)

    def __post_init__(self) -> None:
        """Refuse sections that contradict each other."""
        window = self.train.window
        for name, length in (("train.window", window), *_stage_windows(self.train)):
            if length % self.model.mini_batch_size:
                raise ValueError(
                    f"{name} must be a multiple of model.mini_batch_size, got {length} and "
                    f"{self.model.mini_batch_size}: the inner model learns once per mini-batch, so a window must "
                    f"consist of whole mini-batches"
                )
        _check_task(self.data.task, self.train)
        _check_initial_state(self.train, self.model)
        _check_schedule(self.optimizer)
        _check_stages(self.train)
        if self.evaluation.num_checkpoints:
            _check_evaluation(self.evaluation, window)

    def to_dict(self) -> dict[str, Any]:
        """Return all sections as plain values for JSON or TOML; `build_config` reads them back.

        `model.vocab_size` is None if it is taken from the data.
        """
        values = dataclasses.asdict(self)
        values["model"]["vocab_size"] = self.model.vocab_size or None
        return values


def _check_task(task: str | None, train: TrainConfig) -> None:
    """Refuse an unknown task, and windows that are not one example of it."""
    if task is None:
        return
    if task not in SHORTEST_WINDOWS:
        near = difflib.get_close_matches(task, SHORTEST_WINDOWS, n=1)
        guess = f"; did you mean task:{near[0]}?" if near else ""
        raise ValueError(f"data.source: unknown task `{task}`, known: {', '.join(SHORTEST_WINDOWS)}{guess}")
    if train.window < SHORTEST_WINDOWS[task]:
        raise ValueError(f"task:{task} needs train.window of at least {SHORTEST_WINDOWS[task]}, got {train.window}")
    for name, length in _stage_windows(train):
        if length != train.window:
            raise ValueError(f"{name} must be {train.window}, the tokens of an example of task:{task}, got {length}")


def _check_schedule(optimizer: OptimizerConfig) -> None:
    """Refuse values that contradict each other or the schedule."""
    if optimizer.schedule == "wsd" and optimizer.warmup_ratio + optimizer.decay_ratio > 1:
        raise ValueError(
            f"optimizer.warmup_ratio and optimizer.decay_ratio must sum to at most 1, got {optimizer.warmup_ratio} "
            f"and {optimizer.decay_ratio}"
        )
    if (optimizer.continued_at is None) != (optimizer.continued_rate is None):
        raise ValueError("optimizer.continued_at and optimizer.continued_rate need each other")
    if optimizer.continued_at is not None and optimizer.schedule != "cosine":
        raise ValueError(f"optimizer.continued_at needs optimizer.schedule cosine, got {optimizer.schedule}")


def _check_initial_state(train: TrainConfig, model: ModelConfig) -> None:
    """Refuse initial states that the model cannot have, and values that would change nothing."""
    kind = train.initial_state
    if kind != "zero" and not model.has_state:
        raise ValueError(f"train.initial_state {kind} needs a model with a recurrent state, which {model.name} has not")
    if kind == "zero" and train.initial_state_decay != 1.0:
        raise ValueError(
            "train.initial_state_decay needs an initial state other than zero: the state decays between windows only"
        )
    if kind not in ("fitted", "gaussian") and train.initial_state_noise != TrainConfig.initial_state_noise:
        raise ValueError("train.initial_state_noise needs train.initial_state fitted or gaussian")


def _check_evaluation(evaluation: EvaluationConfig, window: int) -> None:
    """Refuse lengths for which some labelled position (a multiple of the window) is not the end of a chunk."""
    size, stride, longest = evaluation.chunk_size, evaluation.chunk_stride, evaluation.max_length
    if longest < window:
        raise ValueError(f"evaluation.max_length must be at least train.window, got {longest} and {window}")
    if size > window:
        raise ValueError(f"evaluation.chunk_size must be at most train.window, got {size} and {window}")
    for name, length in (("evaluation.chunk_size", size), ("train.window", window)):
        if length % stride:
            raise ValueError(
                f"{name} must be a multiple of evaluation.chunk_stride, got {length} and {stride}: otherwise no chunk "
                f"ends at each multiple of the window, where perplexity is reported"
            )


def _stage_windows(train: TrainConfig) -> list[tuple[str, int]]:
    return [(f"train.stages[{index}].window", stage.window) for index, stage in enumerate(train.stages)]


def _check_stages(train: TrainConfig) -> None:
    """Refuse stages whose shares do not sum to 1, or whose windows do not divide a micro-batch."""
    shares = sum(stage.share for stage in train.stages)
    if train.stages and abs(shares - 1) > _SHARE_TOLERANCE:
        raise ValueError(f"the shares of train.stages must sum to 1, got {shares:.6g}")
    num_tokens = train.batch_size * train.window
    for name, length in _stage_windows(train):
        if num_tokens % length:
            raise ValueError(
                f"{name} must divide the tokens of a micro-batch, train.batch_size x train.window = {num_tokens}, "
                f"got {length}"
            )
        if train.initial_state_decay != 1.0 and length % train.window:
            raise ValueError(
                f"{name} must be a multiple of train.window ({train.window}) with train.initial_state_decay, "
                f"got {length}: the state decays every train.window tokens"
            )


def build_config(values: dict[str, Any]) -> Config:
    """Validate nested plain values and return them as a Config. Raises UsageError, which suggests a known key.

    A missing `model.vocab_size`, or None, is taken from the data. Keys of version 0.1.0 are read under their present
    names.
    """
    values = with_present_names(values)
    model = values.get("model", {})
    if isinstance(model, dict) and model.get("vocab_size") is None:
        values = {**values, "model": {**model, "vocab_size": 0}}
    try:
        return TypeAdapter(Config).validate_python(values)
    except ValidationError as error:
        raise _usage_error(error.errors()[0]) from error


def known_key(key: str) -> str:
    """Return the present name of a dotted key, or raise UsageError, which suggests a known key."""
    key = present_key(key)
    known = [*_known_keys(), "world_size"]
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        raise UsageError(f"unknown key `{key}`", hint=f"did you mean `{near[0]}`?" if near else None)
    return key


def _usage_error(detail: Any) -> UsageError:
    path = ".".join(str(part) for part in detail["loc"])
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        near = difflib.get_close_matches(path, _known_keys(), n=1, cutoff=0.5)
        return UsageError(f"unknown key `{path}`", hint=f"did you mean `{near[0]}`?" if near else None)
    message = detail["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if detail["type"] != "value_error":
        message += f", got {detail['input']!r}"
    return UsageError(f"{path}: {message}" if path and not message.startswith(path) else message)


def _known_keys() -> list[str]:
    sections = {f.name: f.default_factory() for f in dataclasses.fields(Config) if callable(f.default_factory)}
    return [*sections, *(f"{name}.{f.name}" for name, value in sections.items() for f in dataclasses.fields(value))]
