"""The configuration of a run: frozen, validated once, complete. Unknown keys are errors. Imports no torch.

`config_layers` says how the values come together.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from tttkit.config.model import ModelConfig as ModelConfig
from tttkit.errors import UsageError

_SHARE_TOLERANCE = 1e-6
_OLD_TRAIN_KEYS = {
    "carry": "initial_state",
    "carry_from": "initial_state_from",
    "carry_decay": "initial_state_decay",
    "carry_reset": "initial_state_reset",
    "carry_fresh_share": "initial_state_zero_share",
}
_OLD_INITIAL_STATES = {"none": "zero", "lanes": "contiguous"}
_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DataConfig:
    """What the run reads."""

    path: str | None = None
    """A DATA directory; without one the preset prepares `source` into the run's own `data/`."""
    source: str = "stdlib"
    """SOURCE of `tttkit data prepare`, used when `path` is not given."""
    tokenizer: str = "bpe:2048"
    """Tokenizer of `tttkit data prepare`, used when `path` is not given."""
    validation: str | None = None
    """Source of the validation split, used when `path` is not given; for `hf:` its own validation split."""
    io: Literal["mmap", "pread"] = "mmap"
    """How shards are read: mapped, or by position for network file systems, where a file that shrinks is an error."""
    documents: str = "file"
    """Document rule of `tttkit data prepare`, used when `path` is not given."""
    validation_fraction: float = Field(default=0.05, gt=0, lt=1)
    """Share of documents held out, used when neither `path` nor `validation` is given."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class OptimizerConfig:
    """AdamW and its schedule: linear warm-up to the peak, then cosine to `min_lr_ratio` of it."""

    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak learning rate."""
    warmup_ratio: float = Field(default=0.02, ge=0, le=1)
    """Share of all steps spent on the linear warm-up."""
    min_lr_ratio: float = Field(default=0.1, ge=0, le=1)
    """Last learning rate as a share of the peak."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled decay, on projection matrices only."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the second moment."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the root of the second moment."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Global gradient norm to clip to, once per step; 0 switches clipping off."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StageConfig:
    """A stretch of the run that trains on windows of its own length."""

    share: float = Field(gt=0, le=1)
    """Share of the run's tokens; the shares of all stages come to 1."""
    window: int = Field(ge=1)
    """Training window in tokens. An update keeps its tokens: it holds fewer windows where they are longer."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainConfig:
    """The loop. A step is one optimizer update of batch_size x grad_accumulation windows."""

    max_steps: int = Field(default=100_000, ge=0)
    """Optimizer updates."""
    window: int = Field(default=64, ge=1)
    """Training window W in tokens."""
    batch_size: int = Field(default=32, ge=1)
    """Windows per micro-batch and rank."""
    grad_accumulation: int = Field(default=1, ge=1)
    """Micro-batches per step."""
    seed: int = Field(default=42, ge=0)
    """Seed of the initial weights and of the order of windows."""
    precision: Literal["fp32", "bf16"] | None = None
    """Products in fp32, or under bf16 autocast (and tf32 beside it); default fp32 on CPU, bf16 on GPU."""
    device: str | None = None
    """cpu, cuda or cuda:N; default the GPU where there is one."""
    compile: bool | None = None
    """Run blocks through torch.compile; default on a GPU, and on a CPU for runs of more than some five minutes."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads; default OMP_NUM_THREADS, else all cores. Bits depend on it, so it is recorded."""
    save_every: int | None = Field(default=None, ge=1)
    """Steps between resumable states; default a hundredth of the run, at least 50 steps."""
    log_every: int = Field(default=10, ge=1)
    """Steps between records in metrics.jsonl."""
    inner_loss_every: int = Field(default=100, ge=1)
    """Steps between records of the inner loss and of the fast weights' norm, at logged steps (TTT models)."""
    keep_weights: bool = False
    """Keep the weights of every evaluated checkpoint."""
    initial_state: Literal["zero", "contiguous"] = "zero"
    """State that a window starts from: zero, or that of the window before it in contiguous text (truncated BPTT)."""
    initial_state_from: float = Field(default=0.0, ge=0, lt=1)
    """Share of the run after which `initial_state` applies; every window before it starts from zero."""
    initial_state_decay: Annotated[float, Field(ge=0, le=1)] | Literal["learned"] = 1.0
    """Share of the state that is kept at each window border; part of the model. `learned`: one share per head."""
    initial_state_reset: float = Field(default=0.0, ge=0, le=1)
    """Probability that a row starts a window from zero."""
    initial_state_zero_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the rows that start every window from zero."""
    stages: list[StageConfig] = dataclasses.field(default_factory=list)
    """Length curriculum: stages in order; none: `window` throughout. Evaluations always go by `window`."""

    @property
    def tokens_per_step(self) -> int:
        """Tokens that an update learns from, in every stage."""
        return self.window * self.batch_size * self.grad_accumulation


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EvaluationConfig:
    """The protocol of the evaluations along a run."""

    num_checkpoints: int = Field(default=50, ge=0)
    """Evaluations along the run, the first at step 0 and the last at the end."""
    max_length: int = Field(default=1280, ge=2)
    """Length T of an evaluation sequence, in predicted tokens."""
    num_sequences: int = Field(default=64, ge=1)
    """Disjoint sequences of T+1 tokens, cut from the validation split in order."""
    chunk_size: int = Field(default=16, ge=1)
    """Positions K of a chunk."""
    chunk_stride: int = Field(default=16, ge=1)
    """Positions S between the starts of chunks."""
    sw_mode: Literal["positions", "exact"] = "positions"
    """Where the sliding window is computed: at the labelled chunks or everywhere; exact in both."""
    selection_windows: int = Field(default=4096, ge=1)
    """Most windows of the validation split that selection_ppl rests on."""
    num_resamples: int = Field(default=10_000, ge=100)
    """Bootstrap resamples of every interval."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EarlyStoppingConfig:
    """When a run may end before its last step; it goes by selection_ppl."""

    enabled: bool = True
    """Whether to stop early at all."""
    patience: int = Field(default=10, ge=1)
    """Evaluations without improvement before the run stops."""
    min_delta: str = "0.5%"
    """Least improvement that counts: relative (`0.5%`) or absolute (`50`)."""
    min_steps_ratio: float = Field(default=0.2, ge=0, le=1)
    """Share of the run before which it never stops."""

    def __post_init__(self) -> None:
        """Refuse a delta that is no number."""
        try:
            valid = float(self.min_delta.removesuffix("%")) >= 0
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(
                f"must be a number of at least 0 such as `50` or a share such as `0.5%`, got `{self.min_delta}`"
            )


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Config:
    """Everything that decides what a run computes."""

    preset: str = "quick"
    """The preset that the other values started from."""
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
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
                    f"{self.model.mini_batch_size}: the inner model learns once per mini-batch, so every window must "
                    f"hold whole ones"
                )
        if self.train.initial_state == "contiguous" and self.model.architecture != "ttt":
            raise ValueError(
                f"train.initial_state contiguous is for ttt models, got {self.model.name}: nothing else has a state"
            )
        if self.train.initial_state == "zero" and self.train.initial_state_decay != 1.0:
            raise ValueError(
                "train.initial_state_decay needs train.initial_state contiguous: within a window nothing decays"
            )
        _check_stages(self.train)
        if self.evaluation.num_checkpoints:
            _check_evaluation(self.evaluation, window)

    def to_dict(self) -> dict[str, Any]:
        """All sections as plain values, ready for JSON or TOML."""
        return dataclasses.asdict(self)


def _check_evaluation(evaluation: EvaluationConfig, window: int) -> None:
    """Refuse lengths of which no chunk would end at every multiple of the window, where the labels are."""
    size, stride, longest = evaluation.chunk_size, evaluation.chunk_stride, evaluation.max_length
    if longest < window:
        raise ValueError(f"evaluation.max_length must be at least train.window, got {longest} and {window}")
    if size > window:
        raise ValueError(f"evaluation.chunk_size must be at most train.window, got {size} and {window}")
    for name, length in (("evaluation.chunk_size", size), ("train.window", window)):
        if length % stride:
            raise ValueError(
                f"{name} must be a multiple of evaluation.chunk_stride, got {length} and {stride}: else no chunk ends "
                f"at each multiple of the window, where the labels are"
            )


def _stage_windows(train: TrainConfig) -> list[tuple[str, int]]:
    return [(f"train.stages[{index}].window", stage.window) for index, stage in enumerate(train.stages)]


def _check_stages(train: TrainConfig) -> None:
    """Refuse stages that do not fill the run, or whose windows do not fill a micro-batch."""
    shares = sum(stage.share for stage in train.stages)
    if train.stages and abs(shares - 1) > _SHARE_TOLERANCE:
        raise ValueError(f"the shares of train.stages must come to 1, got {shares:.6g}")
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
    """Validate nested plain values into a Config. Raises UsageError naming the key, with the nearest known one.

    Keys of version 0.1.0 are read under their present names.
    """
    try:
        return TypeAdapter(Config).validate_python(with_present_names(values))
    except ValidationError as error:
        raise _usage_error(error.errors()[0]) from error


def with_present_names(values: dict[str, Any]) -> dict[str, Any]:
    """Values whose keys and words of version 0.1.0 (`train.carry = "lanes"`, …) have their present names."""
    train = values.get("train")
    if not isinstance(train, dict) or not train.keys() & _OLD_TRAIN_KEYS.keys():
        return values
    present = {_OLD_TRAIN_KEYS.get(key, key): value for key, value in train.items()}
    if "carry" in train:
        present["initial_state"] = _OLD_INITIAL_STATES.get(train["carry"], train["carry"])
    return {**values, "train": present}


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
