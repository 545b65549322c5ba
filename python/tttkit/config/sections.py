"""The sections of a run's configuration. The docstring of a field is its help text and its entry in the documentation.

`config.run` puts the sections together and checks them against each other. Imports no torch.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from tttkit.config.limits import (
    MOST_CHECKPOINTS,
    MOST_NUMBER,
    MOST_RESAMPLES,
    MOST_STEPS,
    MOST_THREADS,
    MOST_TOKENS,
)

TASK_PREFIX = "task:"
"""Begins a `data.source` that names a synthetic task."""
SHORTEST_WINDOWS = {"mqar": 18, "copy": 4, "selective-copy": 34, "induction": 6, "passkey": 48}
"""The tasks that `data.source` can name, and the shortest window that holds an example of each. How much room passkey
needs depends on the tokenizer; this is enough for most."""
TEXT_TASK = "passkey"
"""The task that is made of real text, with any tokenizer, and of which all tokens are trained on."""
STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataConfig:
    """The text that the run trains and evaluates on."""

    path: str | None = None
    """DATA directory of `tttkit data prepare`. Without it, `data.source` is prepared into the run's own `data/`."""
    source: str = "stdlib"
    """Text to prepare if `data.path` is not set: a SOURCE of `tttkit data prepare`, or task:NAME for the examples of a
    synthetic task (mqar, copy, selective-copy, induction), of which only the answers are trained on; task:passkey for
    the source of Python's own library with pass keys in half of the windows."""
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

    @property
    def task(self) -> str | None:
        """The task that the run trains on; None for text."""
        is_task = self.path is None and self.source.startswith(TASK_PREFIX)
        return self.source.removeprefix(TASK_PREFIX) if is_task else None

    @property
    def has_answers(self) -> bool:
        """Whether only the answers of a synthetic task have a loss."""
        return self.task not in (None, TEXT_TASK)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimizerConfig:
    """AdamW and its schedule: linear warm-up to the peak, then decay to `min_lr_ratio` of the peak."""

    learning_rate: float = Field(default=3e-4, gt=0)
    """Peak learning rate."""
    warmup_ratio: float = Field(default=0.02, ge=0, le=1)
    """Share of all steps spent on the linear warm-up."""
    warmup_steps: int | None = Field(default=None, ge=0, le=MOST_STEPS)
    """Steps of the linear warm-up, in place of `optimizer.warmup_ratio`."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    """After the warm-up: `cosine` decays to the end; `wsd` is stable at the peak, then decays linearly at the end."""
    continued_at: int | None = Field(default=None, ge=0, le=MOST_STEPS)
    """Step at which a run with `cosine` ended before it went on for more steps; `tttkit resume --max-steps` sets it."""
    continued_rate: float | None = Field(default=None, gt=0)
    """Learning rate at that step, from which a new cosine decays to `min_lr_ratio` of it."""
    decay_ratio: float = Field(default=0.2, ge=0, le=1)
    """Share of all steps spent on the decay of `wsd`."""
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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StageConfig:
    """A part of the run with its own training window."""

    share: float = Field(gt=0, le=1)
    """Share of the run's tokens; the shares of all stages must sum to 1."""
    window: int = Field(ge=1, le=MOST_TOKENS)
    """Training window of the stage in tokens. Every update has the same number of tokens in all stages."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """The training loop. A step is one optimizer update of batch_size x grad_accumulation windows."""

    max_steps: int = Field(default=100_000, ge=0, le=MOST_STEPS)
    """Number of optimizer updates."""
    window: int = Field(default=64, ge=1, le=MOST_TOKENS)
    """Training window W in tokens."""
    batch_size: int = Field(default=32, ge=1, le=MOST_TOKENS)
    """Windows per batch. An update averages over batch_size x grad_accumulation windows of every rank."""
    grad_accumulation: int = Field(default=1, ge=1, le=MOST_TOKENS)
    """Batches per update. On a GPU all windows of an update run at once; `train.micro_batch` limits their memory."""
    global_batch: int | None = Field(default=None, ge=1, le=MOST_TOKENS)
    """Windows of an update over all ranks; grad_accumulation then follows. Default: the product times the ranks."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Under torchrun: ddp keeps the whole model on every rank, fsdp (FSDP2) shards weights, gradients and moments."""
    rank_timeout: float = Field(default=60.0, ge=1, le=86_400)
    """Seconds without a sign of life after which a rank counts as lost and the others end."""
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
    initial_state: Literal["zero", "contiguous", "passed", "fitted", "gaussian"] = "zero"
    """Recurrent state at the start of a window: zero, the final state of the preceding window of the text (truncated
    BPTT), the final memory of an unrelated window, or noise as large as final memories, with or without their mean."""
    initial_state_from: float = Field(default=0.0, ge=0, lt=1)
    """Share of the run before `initial_state` takes effect; until then every window starts from zero."""
    initial_state_decay: Annotated[float, Field(ge=0, le=1)] | Literal["learned"] = 1.0
    """Share of the recurrent state kept at each window boundary, a part of the model. `learned`: one share per head."""
    initial_state_reset: float = Field(default=0.0, ge=0, le=1)
    """Probability that a row starts a window from zero."""
    initial_state_zero_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the rows that start every window from zero."""
    initial_state_noise: float = Field(default=0.5, gt=0, le=10)
    """Noise of `fitted` and `gaussian` as a share of the spread of the last final memories, by layer and head. Below 1,
    the noise cannot make memories grow from update to update."""
    stages: list[StageConfig] = dataclasses.field(default_factory=list)
    """Length curriculum: stages in order; without stages, `window` applies throughout. Evaluations use `window`."""

    @property
    def tokens_per_step(self) -> int:
        """Tokens that an update of all ranks learns from, in every stage."""
        return self.window * (self.global_batch or self.batch_size * self.grad_accumulation)

    def num_batches(self, num_ranks: int) -> int:
        """Return the number of batches that each rank accumulates for an update."""
        if self.global_batch is None:
            return self.grad_accumulation
        return -(-self.global_batch // (num_ranks * self.batch_size))


@dataclass(frozen=True, kw_only=True, config=STRICT)
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


@dataclass(frozen=True, kw_only=True, config=STRICT)
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
