"""Named experiments. Each is a set of values that a TOML file, flags and `--set` can override."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from tttkit.config.model import ModelConfig
from tttkit.config.old_names import present_preset
from tttkit.errors import UsageError

_REFERENCE_MODEL = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "mini_batch_size": 16,
}  # fmt: skip
_WIKITEXT_103 = {
    "source": "hf:Salesforce/wikitext:wikitext-103-raw-v1", "validation": "hf:Salesforce/wikitext:wikitext-103-raw-v1",
    "tokenizer": "gpt2", "documents": "wikitext",
}  # fmt: skip


_BASELINES = {
    "sw": "sliding-window attention",
    "transformer": "full causal attention",
    "gated-deltanet": "Gated DeltaNet",
    "deltanet": "DeltaNet",
    "mamba2": "Mamba-2",
    "lact": "large-chunk TTT beside sliding-window attention",
    "titans": "the linear memory of Titans",
    "rwkv7": "RWKV-7",
    "ttt-hybrid": "layers of TTT-Linear and of sliding-window attention in turn",
    "gdn-hybrid": "three layers of Gated DeltaNet to one of sliding-window attention",
}
_QUICK_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ttt-mlp": ("TTT-MLP", {"ttt_layer_type": "mlp", "intermediate_size": 304}),
    "sw": ("sliding-window attention", {"architecture": "sw"}),
    "transformer": ("full causal attention", {"architecture": "transformer"}),
    "gated-deltanet": ("Gated DeltaNet", {"architecture": "gated-deltanet", "intermediate_size": 304}),
    "deltanet": ("DeltaNet", {"architecture": "deltanet", "intermediate_size": 392}),
    "mamba2": ("Mamba-2", {"architecture": "mamba2", "intermediate_size": 216}),
    "lact": ("large-chunk TTT beside sliding-window attention", {"architecture": "lact", "intermediate_size": 360}),
    "titans": ("the linear memory of Titans", {"architecture": "titans", "intermediate_size": 344}),
    "rwkv7": ("RWKV-7", {"architecture": "rwkv7", "intermediate_size": 312}),
    "ttt-hybrid": ("layers of TTT-Linear and of sliding-window attention in turn", {"pattern": ["ttt-linear", "sw"]}),
    "gdn-hybrid": (
        "three layers of Gated DeltaNet to one of sliding-window attention",
        {"pattern": ["gated-deltanet", "gated-deltanet", "gated-deltanet", "sw"], "intermediate_size": 328},
    ),
    "ttt-parallel": (
        "sliding-window attention beside TTT-Linear in every layer", {"parallel_window": True, "intermediate_size": 208}
    ),
    "ttt-parallel-decay": (
        "a learned decay and sliding-window attention beside TTT-Linear in every layer",
        {"parallel_window": True, "inner_decay": "token", "intermediate_size": 208},
    ),
}  # fmt: skip
"""Models whose size is that of `quick` to 2 %: words, and the fields in which they differ from it."""
_WITH_SINKS = {name: _QUICK_MODELS[name] for name in ("sw", "ttt-hybrid", "gdn-hybrid")}
"""Quick models that have a sibling whose windows have sinks."""
_REASONS = {
    "gated-deltanet": " In our studies no kind of memory is shown to be better, from 1 to 100 x W.",
    "gdn-hybrid": " In our studies it beats a sliding window with sinks at 1 to 100 x W.",
    "ttt-parallel-decay": " In our studies no collapse is shown, and no loss against a sliding window.",
}
"""Why a preset is there, after its summary."""
_WHY_DECAY = " In our studies this takes most of the collapse past the window away, at no cost within it that we saw."


def _quick() -> dict[str, Any]:
    """A few minutes on two cores, on text that every machine has: the source of Python's own library."""
    return {
        "model": {
            "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 384,
            "mini_batch_size": 16,
        },
        "data": {"source": "stdlib", "tokenizer": "bpe:2048"},
        "optimizer": {"learning_rate": 3e-3, "warmup_ratio": 0.05},
        "train": {"max_steps": 800, "window": 64, "batch_size": 16, "save_every": 100},
        "evaluation": {"num_checkpoints": 10, "max_length": 1280, "num_sequences": 16, "selection_windows": 512},
    }  # fmt: skip


def _with_model(base: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """The run of `base` with other values of the model."""
    return {**base, "model": {**base["model"], **fields}}


def _task(name: str) -> dict[str, Any]:
    """A synthetic task on a model of two layers; its evaluation by position says little, so it is as small as possible.

    A convolution in front of every block joins a key and its value. Without it attention and TTT spend most of a run on
    learning that, so the task would measure something else than memory.
    """
    return {
        "model": {
            "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
            "mini_batch_size": 16, "pre_conv": True,
        },
        "data": {"source": f"task:{name}"},
        "optimizer": {"learning_rate": 3e-3, "warmup_ratio": 0.05, "weight_decay": 0.01},
        "train": {"max_steps": 1200, "window": 64, "batch_size": 64, "save_every": 500},
        "evaluation": {"num_checkpoints": 1, "max_length": 128, "num_sequences": 4, "selection_windows": 64},
        "early_stopping": {"enabled": False},
    }  # fmt: skip


def _passkey() -> dict[str, Any]:
    """The quick model on real text with pass keys; its evaluation is on real text alone."""
    values = _quick()
    return {
        **values,
        "data": {**values["data"], "source": "task:passkey"},
        "train": {**values["train"], "max_steps": 2000},
        "evaluation": {**values["evaluation"], "num_checkpoints": 4},
        "early_stopping": {"enabled": False},
    }


def _curriculum_100k() -> dict[str, Any]:
    """The reference run: 152.6M parameters, 204.8M tokens, 50 evaluations."""
    return {
        "model": _REFERENCE_MODEL,
        "data": _WIKITEXT_103,
        "train": {"max_steps": 100_000, "window": 64, "batch_size": 8, "grad_accumulation": 4},
    }


def _curriculum_15k() -> dict[str, Any]:
    """The 15,000-step run of the earlier system; here a step is an optimizer update, not a micro-batch."""
    return {**_curriculum_100k(), "train": {**_curriculum_100k()["train"], "max_steps": 15_000}}


def _contiguous(base: dict[str, Any]) -> dict[str, Any]:
    """The run of `base`, but in its last fifth windows start from the decayed state of the preceding window."""
    return {
        **base,
        "train": {
            **base["train"],
            "initial_state": "contiguous",
            "initial_state_from": 0.8,
            "initial_state_decay": 0.9,
        },
    }


def _window_128() -> dict[str, Any]:
    """The reference run at W=128, with the same number of tokens per step."""
    return {
        **_curriculum_100k(),
        "train": {"max_steps": 100_000, "window": 128, "batch_size": 4, "grad_accumulation": 4},
        "evaluation": {"max_length": 2560},
    }


def _baseline(architecture: str) -> dict[str, Any]:
    """The reference recipe with another architecture of the same size."""
    model = ModelConfig.preset(f"{architecture}-125m").to_dict()
    del model["vocab_size"]  # taken from the data
    return {**_curriculum_100k(), "model": model}


class Preset(NamedTuple):
    """A named experiment."""

    summary: str
    """One sentence about the experiment."""
    build: Callable[[], dict[str, Any]]
    """Returns its values."""


_PRESETS = {
    "quick": Preset("A few minutes on two cores, on text that every machine has.", _quick),
    "quick-contiguous": Preset(
        "`quick`, but in the last fifth of the run windows start from the decayed state of the preceding window.",
        lambda: _contiguous(_quick()),
    ),
    "quick-decay": Preset(
        f"`quick` with a learned decay.{_WHY_DECAY}", partial(_with_model, _quick(), {"inner_decay": "token"})
    ),
    **{
        f"quick-{name}": Preset(
            f"`quick` with {words}, of the same size.{_REASONS.get(name, '')}", partial(_with_model, _quick(), fields)
        )
        for name, (words, fields) in _QUICK_MODELS.items()
    },
    **{
        f"quick-{name}-sinks": Preset(
            f"`quick` with {words}, whose windows always see the first tokens too.",
            partial(_with_model, _quick(), {**fields, "sink": "tokens"}),
        )
        for name, (words, fields) in _WITH_SINKS.items()
    },
    **{
        name: Preset(
            f"A model of two layers on the synthetic task {name}, in minutes; measure it with `tttkit recall`.",
            partial(_task, name),
        )
        for name in ("mqar", "copy", "selective-copy", "induction")
    },
    "passkey": Preset(
        "The quick model on real text with pass keys to remember; measure it with `tttkit recall`.",
        _passkey,
    ),
    "curriculum-100k": Preset(
        "The reference run: 152.6M parameters, 204.8M tokens of WikiText-103, 50 evaluations.", _curriculum_100k
    ),
    "curriculum-100k-contiguous": Preset(
        "`curriculum-100k` with initial states as in `quick-contiguous`.", lambda: _contiguous(_curriculum_100k())
    ),
    "curriculum-100k-decay": Preset(
        f"`curriculum-100k` with a learned decay.{_WHY_DECAY}",
        partial(_with_model, _curriculum_100k(), {"inner_decay": "token"}),
    ),
    "curriculum-100k-ttt-parallel-decay": Preset(
        "`curriculum-100k` with a learned decay and sliding-window attention beside every layer, of the same size."
        f"{_REASONS['ttt-parallel-decay']}",
        partial(
            _with_model,
            _curriculum_100k(),
            {"inner_decay": "token", "parallel_window": True, "intermediate_size": 2048},
        ),
    ),
    "curriculum-15k": Preset("The reference run with 15,000 steps instead of 100,000.", _curriculum_15k),
    "window-128": Preset("The reference run at W=128, with the same number of tokens per step.", _window_128),
    **{
        f"{architecture}-125m": Preset(
            f"The recipe of the reference run for {words} of the same size.{_REASONS.get(architecture, '')}",
            partial(_baseline, architecture),
        )
        for architecture, words in _BASELINES.items()
    },
}
PRESET_NAMES = tuple(_PRESETS)


def preset_values(name: str) -> dict[str, Any]:
    """Return the values of a named experiment, for `build_config`. Raises UsageError for an unknown name."""
    name = present_preset(name)
    if name not in _PRESETS:
        near = difflib.get_close_matches(name, PRESET_NAMES, n=1)
        guess = f"did you mean `{near[0]}`? " if near else ""
        raise UsageError(f"unknown preset `{name}`", hint=f"{guess}presets: {', '.join(PRESET_NAMES)}")
    return {"preset": name, **_PRESETS[name].build()}


def preset_summary(name: str) -> str:
    """Return one sentence about a preset of PRESET_NAMES."""
    return _PRESETS[name].summary
