"""The complete configuration of a run: a frozen value, validated once at construction. Unknown keys are errors.

The docstring of a field is its help text: `train --help` and docs/configuration.md are generated from it.
`config.layers` collects values, and `config.resolve` adds values that data and machine decide. Imports no torch.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from tttkit.config.limits import (
    MOST_CHECKPOINTS,
    MOST_NUMBER,
    MOST_RESAMPLES,
    MOST_STEPS,
    MOST_THREADS,
    MOST_TOKENS,
)
from tttkit.config.model import ModelConfig as ModelConfig
from tttkit.config.old_names import present_key, with_present_names
from tttkit.errors import UsageError

_SHARE_TOLERANCE = 1e-6
_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DataConfig:
    """The text that the run trains and evaluates on."""

    path: str | None = None
    """DATA directory of `tttkit data prepare`. Without it, `data.source` is prepared into the run's own `data/`."""
    source: str = "stdlib"
    """Text to prepare if `data.path` is not set: a SOURCE of `tttkit data prepare`."""
    tokenizer: str = "bpe:2048"
    """Tokenizer to prepare with if `data.path` is not set: as `--tokenizer` of `tttkit data prepare`."""
    validation: str | None = None
    """Source of the validation split if `data.path` is not set; for an `hf:` source, the data set's own split."""
    io: Literal["mmap", "pread"] = "mmap"
    """How shards are read. `pread` suits network file systems: a shard that shrinks is an error, not a crash."""
    documents: str = "file"
    """Rule that splits the text into documents if `data.path` is not set: as `--documents` of `tttkit data prepare`."""
    validation_fraction: float = Field(default=0.05, gt=0, lt=1)
    """Share of documents held out for validation if neither `data.path` nor `data.validation` is set."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class OptimizerConfig:
    """AdamW and its schedule: linear warm-up to the peak, then cosine decay to `min_lr_ratio` of the peak."""

    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak learning rate."""
    warmup_ratio: float = Field(default=0.02, ge=0, le=1)
    """Share of all steps spent on the linear warm-up."""
    min_lr_ratio: float = Field(default=0.1, ge=0, le=1)
    """Final learning rate as a share of the peak."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay, applied to projection matrices only."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the second moment."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the square root of the second moment."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Global gradient norm to clip to, once per step; 0 turns clipping off."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class StageConfig:
    """A part of the run with its own training window."""

    share: float = Field(gt=0, le=1)
    """Share of the run's tokens; the shares of all stages must sum to 1."""
    window: int = Field(ge=1, le=MOST_TOKENS)
    """Training window of the stage in tokens. Every update has the same number of tokens in all stages."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainConfig:
    """The training loop. A step is one optimizer update of batch_size x grad_accumulation windows."""

    max_steps: int = Field(default=100_000, ge=0, le=MOST_STEPS)
    """Number of optimizer updates."""
    window: int = Field(default=64, ge=1, le=MOST_TOKENS)
    """Training window W in tokens."""
    batch_size: int = Field(default=32, ge=1, le=MOST_TOKENS)
    """Windows per batch. An update averages over batch_size x grad_accumulation windows."""
    grad_accumulation: int = Field(default=1, ge=1, le=MOST_TOKENS)
    """Batches per update. On a GPU all windows of an update run at once; `train.micro_batch` limits their memory."""
    micro_batch: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    """Windows that run through the model at once. Default: one batch on a CPU, all windows of an update on a GPU."""
    seed: int = Field(default=42, ge=0, le=MOST_NUMBER)
    """Seed of the initial weights and of the order of windows."""
    precision: Literal["fp32", "bf16"] | None = None
    """Precision of matrix products: fp32, or bf16 autocast (with tf32). Default: bf16 on a GPU, fp32 on a CPU."""
    device: str | None = None
    """cpu, cuda or cuda:N. Default: the GPU if there is one."""
    compile: bool | None = None
    """Compile the blocks with torch.compile. Default: on a GPU, and on a CPU for runs longer than about 5 minutes."""
    num_threads: int | None = Field(default=None, ge=1, le=MOST_THREADS)
    """CPU threads. Default: OMP_NUM_THREADS, else the fastest measured. They affect rounding, so resume keeps them."""
    save_every: int | None = Field(default=None, ge=1, le=MOST_STEPS)
    """Steps between training checkpoints. Default: 1 % of the run, at least 50 steps."""
    log_every: int = Field(default=10, ge=1, le=MOST_STEPS)
    """Steps between records in metrics.jsonl."""
    inner_loss_every: int = Field(default=100, ge=1, le=MOST_STEPS)
    """Steps between records of the inner loss and the fast-weight norms of TTT models, at logged steps."""
    keep_weights: bool = False
    """Keep the model weights of every evaluation."""
    initial_state: Literal["zero", "contiguous"] = "zero"
    """Recurrent state at the start of a window: zero, or the final state of the preceding window (truncated BPTT)."""
    initial_state_from: float = Field(default=0.0, ge=0, lt=1)
    """Share of the run before `initial_state` takes effect; until then every window starts from zero."""
    initial_state_decay: Annotated[float, Field(ge=0, le=1)] | Literal["learned"] = 1.0
    """Share of the recurrent state kept at each window boundary, a part of the model. `learned`: one share per head."""
    initial_state_reset: float = Field(default=0.0, ge=0, le=1)
    """Probability that a row starts a window from zero."""
    initial_state_zero_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the rows that start every window from zero."""
    stages: list[StageConfig] = dataclasses.field(default_factory=list)
    """Length curriculum: stages in order; without stages, `window` applies throughout. Evaluations use `window`."""

    @property
    def tokens_per_step(self) -> int:
        """Tokens that an update learns from, in every stage."""
        return self.window * self.batch_size * self.grad_accumulation


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EvaluationConfig:
    """The protocol of the evaluations during a run."""

    num_checkpoints: int = Field(default=50, ge=0, le=MOST_CHECKPOINTS)
    """Number of evaluations during the run, the first at step 0 and the last at the end."""
    max_length: int = Field(default=1280, ge=2, le=MOST_TOKENS)
    """Length T of an evaluation sequence, in predicted tokens."""
    num_sequences: int = Field(default=64, ge=1, le=MOST_TOKENS)
    """Number of disjoint sequences of T+1 tokens, taken from the validation split in order."""
    chunk_size: int = Field(default=16, ge=1, le=MOST_TOKENS)
    """Positions per chunk, K."""
    chunk_stride: int = Field(default=16, ge=1, le=MOST_TOKENS)
    """Positions between the starts of two chunks, S."""
    sw_mode: Literal["positions", "exact"] = "positions"
    """Where the sliding-window context is computed: at the labelled chunks or at every chunk. Both are exact."""
    selection_windows: int = Field(default=4096, ge=1, le=MOST_TOKENS)
    """Maximum number of validation windows used for selection_ppl."""
    num_resamples: int = Field(default=10_000, ge=100, le=MOST_RESAMPLES)
    """Bootstrap resamples per confidence interval."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EarlyStoppingConfig:
    """Early stopping, which watches selection_ppl."""

    enabled: bool = True
    """Enable early stopping."""
    patience: int = Field(default=10, ge=1, le=MOST_CHECKPOINTS)
    """Evaluations without improvement before the run stops."""
    min_delta: str = "0.5%"
    """Smallest decrease of selection_ppl that counts as an improvement: relative (`0.5%`) or absolute (`50`)."""
    min_steps_ratio: float = Field(default=0.2, ge=0, le=1)
    """Initial share of the run in which it never stops."""

    def __post_init__(self) -> None:
        """Refuse a delta that is not a number."""
        try:
            valid = 0 <= float(self.min_delta.removesuffix("%")) < float("inf")
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(
                f"must be a number of at least 0 such as `50` or a share such as `0.5%`, got `{self.min_delta}`"
            )


def _model_of_the_data() -> ModelConfig:
    return ModelConfig(vocab_size=0)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
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
        if self.train.initial_state == "contiguous" and not self.model.has_state:
            raise ValueError(
                f"train.initial_state contiguous needs a model with a recurrent state, which {self.model.name} has not"
            )
        if self.train.initial_state == "zero" and self.train.initial_state_decay != 1.0:
            raise ValueError(
                "train.initial_state_decay needs train.initial_state contiguous: the state decays between windows only"
            )
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
