"""The configuration of a model: one frozen value under the official field names, and the named sizes. Imports no torch.

The rest of the program learns about a model from these properties before it is built, and from the attributes in
`models/layers.py` afterwards. No other module compares `architecture`.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from tttkit.config.model_checks import WITHOUT_MEMORY, check_model
from tttkit.config.model_sizes import MODEL_SIZES
from tttkit.errors import UsageError

MODEL_NAMES = (
    "ttt-linear", "ttt-mlp", "sw", "transformer", "gated-deltanet", "deltanet", "mamba2", "lact", "titans", "rwkv7",
)  # fmt: skip
_WITH_MINI_BATCHES = ("ttt", "lact", "titans")
_WITH_WINDOW = ("sw", "lact")
_OF_TTT: dict[str, Any] = {
    "state_decay": 1.0, "learn_state_decay": False, "inner_decay": "none", "inner_momentum": 0.0,
    "inner_rescale": False, "inner_lr_decay": 0.0,
}  # fmt: skip
"""Fields of TTT layers, with the values that leave a model without them."""


@dataclass(
    frozen=True, kw_only=True, config=ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
)
class ModelConfig:
    """Architecture and sizes of one language model. Field names are those of the official TTT configuration."""

    architecture: Literal[
        "ttt", "sw", "transformer", "gated-deltanet", "deltanet", "mamba2", "lact", "titans", "rwkv7", "hybrid"
    ] = "ttt"
    """Which model: Test-Time Training, sliding-window attention, full causal attention, a memory of another kind, or
    layers of several kinds (`pattern`)."""
    pattern: list[str] = dataclasses.field(default_factory=list)
    """Kinds of layers of a hybrid model, repeated from the lowest layer on, by the names that `--model` takes."""
    vocab_size: int = 50_257
    """Rows of the embedding; every token id is smaller. In a run, 0 means that the data decides."""
    hidden_size: int = 768
    """Width D of the residual stream."""
    intermediate_size: int = 3072
    """Width I of the SwiGLU feed-forward."""
    num_hidden_layers: int = 12
    """Number of blocks."""
    num_attention_heads: int = 12
    """Number of heads H; the head width is hidden_size / H."""
    mini_batch_size: int = 16
    """Inner mini-batch C of a ttt, lact or titans layer, in tokens; 1 for the other models."""
    ttt_layer_type: Literal["linear", "mlp"] = "linear"
    """The inner model of a TTT layer."""
    ttt_base_lr: float = 1.0
    """Inner learning rate before its learned gate."""
    rope_theta: float = 10_000.0
    """Base of the rotary position frequencies."""
    rms_norm_eps: float = 1e-6
    """Added under the square root of every norm."""
    use_gate: bool = False
    """Multiply the TTT output by a learned gate (Mamba-style backbone)."""
    share_qk: bool = False
    """Use one projection for q and k, with a short convolution for each."""
    pre_conv: bool = False
    """Apply a short causal convolution before every TTT layer."""
    conv_kernel: int = 4
    """Length of the short convolutions, in tokens."""
    tie_word_embeddings: bool = True
    """Use the embedding as the output head."""
    initializer_range: float = 0.02
    """Standard deviation of initial weights."""
    sliding_window: int = 64
    """Tokens W that a token attends to in each layer with a window, itself included."""
    parallel_window: bool = False
    """Add attention to the last W tokens to every memory, which a learned gate weighs that starts almost closed."""
    sink: Literal["none", "tokens", "logit"] = "none"
    """What a layer with a window attends to beside it: nothing, the first tokens of the text, or a learned logit."""
    num_sinks: int = 4
    """Number of the first tokens that stay visible with `sink = tokens`."""
    state_decay: float = 1.0
    """Share of the learned change that a TTT state keeps every `decay_window` tokens; 1 keeps all."""
    learn_state_decay: bool = False
    """Learn the share per head, starting from `state_decay`."""
    decay_window: int = 64
    """Tokens between two decays of the state, a multiple of the inner mini-batch."""
    inner_decay: Literal["none", "head", "token"] = "none"
    """Decay of what a TTT state learned, at every token: none, a learned share per head, or one from the token."""
    inner_momentum: float = 0.0
    """Share of its last change that a TTT state begins a mini-batch with, learned per head from this value on."""
    inner_rescale: bool = False
    """Bring the fast weights of every output unit of a TTT state back to their initial norm after every mini-batch."""
    inner_lr_decay: float = 0.0
    """Power p with which the inner learning rate of TTT falls with age: times (1 + n)^-p after n mini-batches."""
    num_key_heads: int = 0
    """Key heads of gated-deltanet and deltanet, each used by several of the H value heads; 0 means H."""
    key_head_dim: int = 0
    """Width of a key head of gated-deltanet, deltanet and titans; 0 means that of `head_dim`, 3/4 of it if gated."""
    value_head_dim: int = 0
    """Width of a value head; 0 means the width of a key head, twice that if gated, and 2 `head_dim` for mamba2."""
    state_size: int = 128
    """State width N of mamba2."""
    num_groups: int = 1
    """Groups of heads of mamba2 that share what is written and read."""
    fast_heads: int = 4
    """Heads of the fast weights of lact."""
    fast_width: float = 1.0
    """Hidden width of the fast weights of lact, as a multiple of the width of a fast head."""
    fast_rank: int = 0
    """Rank of the learned initial fast weights of lact; 0 means full rank."""
    fast_momentum: bool = True
    """Carry momentum from one update of the fast weights of lact to the next."""
    fast_muon: bool = False
    """Orthogonalise the updates of the fast weights of lact."""
    fast_rope: bool = True
    """Rotate queries and keys of the fast weights of lact by their positions."""

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together. Raises ValueError."""
        kinds = self._architectures()
        if kinds.isdisjoint(_WITH_MINI_BATCHES):
            object.__setattr__(self, "mini_batch_size", 1)
        check_model(self, kinds)
        for kind in dict.fromkeys(self.pattern):
            self._of_kind(kind)

    def _architectures(self) -> set[str]:
        """Return the architectures of all layers; a model with a pattern is a hybrid, whatever was said."""
        if self.pattern:
            object.__setattr__(self, "architecture", "hybrid")
            for name in self.pattern:
                if name not in MODEL_NAMES:
                    raise ValueError(f"model.pattern holds `{name}`, which is none of {', '.join(MODEL_NAMES)}")
            return {name_to_fields(name)["architecture"] for name in self.pattern}
        if self.architecture == "hybrid":
            raise ValueError('model.pattern is needed for a hybrid model, such as ["ttt-linear", "sw"]')
        return {self.architecture}

    @property
    def has_state(self) -> bool:
        """Whether the state after one window may be the initial state of the next, as in the built model."""
        if self.pattern:
            # the windows of a hybrid carry their state over, see `models/carried_window.py`
            return "transformer" not in self.pattern
        if self.architecture == "sw":
            return self.sink != "none"
        return self.architecture != "transformer"

    @property
    def attends_to_window(self) -> bool:
        """Whether `sliding_window` bounds the tokens that a layer attends to."""
        return self.parallel_window or not {self.architecture, *self.pattern}.isdisjoint(_WITH_WINDOW)

    @property
    def num_sink_tokens(self) -> int:
        """Number of tokens at the start of a text that stay visible to a layer with a window."""
        return self.num_sinks if self.sink == "tokens" else 0

    @property
    def decays(self) -> bool:
        """Whether the state of a TTT layer decays every `decay_window` tokens."""
        return self.learn_state_decay or self.state_decay != 1.0

    @property
    def head_dim(self) -> int:
        """Width d of one head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def memory_head_dims(self) -> tuple[int, int]:
        """Widths of a key head and of a value head of a memory."""
        key = self.key_head_dim or (3 * self.head_dim // 4 if self.architecture == "gated-deltanet" else self.head_dim)
        doubled = self.architecture in ("gated-deltanet", "mamba2")
        return key, self.value_head_dim or (2 * key if doubled else key)

    @property
    def name(self) -> str:
        """The value of `--model` for this model; for a hybrid the kinds of its layers, such as `ttt-linear+sw`."""
        if self.pattern:
            return "+".join(dict.fromkeys(self.pattern))
        return f"ttt-{self.ttt_layer_type}" if self.architecture == "ttt" else self.architecture

    @property
    def layer_kinds(self) -> list[str]:
        """The kind of every layer from the lowest on, one of MODEL_NAMES each."""
        pattern = self.pattern or [self.name]
        return [pattern[index % len(pattern)] for index in range(self.num_hidden_layers)]

    def layer_configs(self) -> list[ModelConfig]:
        """Return the configuration of every layer from the lowest on: this one, or in a hybrid that of its kind."""
        if not self.pattern:
            return [self] * self.num_hidden_layers
        by_kind = {kind: self._of_kind(kind) for kind in set(self.pattern)}
        return [by_kind[kind] for kind in self.layer_kinds]

    def _of_kind(self, kind: str) -> ModelConfig:
        """Return the configuration of the layers of one kind in a hybrid."""
        fields: dict[str, Any] = {"pattern": [], **name_to_fields(kind)}
        if fields["architecture"] != "ttt":
            fields |= _OF_TTT
        if fields["architecture"] in WITHOUT_MEMORY:
            fields["parallel_window"] = False
        beside = fields.get("parallel_window", self.parallel_window)
        if fields["architecture"] not in _WITH_WINDOW and not beside:
            fields["sink"] = "none"
        return dataclasses.replace(self, **fields)

    def as_transformer(self) -> ModelConfig:
        """Return the full-attention baseline of the same sizes: only the sequence layers differ."""
        off: dict[str, Any] = dict.fromkeys(("use_gate", "share_qk", "pre_conv", "parallel_window"), False)
        return dataclasses.replace(self, architecture="transformer", pattern=[], sink="none", **off, **_OF_TTT)

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> ModelConfig:
        """Build a named size: `ttt-125m` is the reference model with 152,609,616 parameters. Raises UsageError."""
        if name not in MODEL_SIZES:
            raise UsageError(f"unknown model preset `{name}`", hint=f"presets: {', '.join(MODEL_SIZES)}")
        return cls(**{**MODEL_SIZES[name], **overrides})

    @classmethod
    def from_official(cls, config: dict[str, Any]) -> ModelConfig:
        """Build from an official config.json, or from ours; unknown keys (model_type, …) are ignored.

        Keys that an official config.json leaves out get the official defaults. Raises ValueError for an activation
        other than silu and for grouped heads, which no model here has.
        """
        if config.get("hidden_act", "silu") != "silu":
            raise ValueError(f"hidden_act must be silu, got {config['hidden_act']}")
        heads = config.get("num_attention_heads")
        if config.get("num_key_value_heads", heads) != heads:
            raise ValueError(f"num_key_value_heads must equal num_attention_heads, got {config['num_key_value_heads']}")
        known = {field.name for field in dataclasses.fields(cls)}
        defaults = {} if "architecture" in config else MODEL_SIZES["official-1b"]
        return cls(**{**defaults, **{key: value for key, value in config.items() if key in known}})

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values."""
        return dataclasses.asdict(self)


def name_to_fields(name: str) -> dict[str, str]:
    """Return the fields that `--model name` sets. Raises UsageError."""
    if name not in MODEL_NAMES:
        raise UsageError(f"unknown model `{name}`", hint=f"models: {', '.join(MODEL_NAMES)}")
    if name.startswith("ttt-"):
        return {"architecture": "ttt", "ttt_layer_type": name.removeprefix("ttt-")}
    return {"architecture": name}
