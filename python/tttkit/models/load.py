"""Load any model that can be scored: ours, in the official TTT format, or of any Hugging Face causal architecture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tttkit.errors import DataError, UsageError
from tttkit.models.hugging_face.directory import read_config
from tttkit.models.storage import check_finite, load_model

if TYPE_CHECKING:
    from tttkit.models.scoring import LoadedModel

DTYPES = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Floating-point types by name; `auto` is the one of the weights on disk."""


def load_scoring_model(path: str | Path, dtype: str = "fp32", trust_remote_code: bool = False) -> LoadedModel:
    """Load the model of a directory as a `ScoringModel`, on the CPU and in evaluation mode.

    `path` is a model directory of tttkit, one in the official TTT format, a Hugging Face directory of any causal
    language model, or `hf:NAME[@REVISION]` for one on the hub. `dtype` is the type in which the model computes: auto,
    fp32, bf16 or fp16; NLL is always computed from float32 logits. Python code in a directory runs only with
    `trust_remote_code`. Raises UsageError, DataError, NumericalError.
    """
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype `{dtype}`", hint=f"known: {', '.join(DTYPES)}")
    directory = find_model(path)
    if not directory.is_dir():
        raise DataError(f"no such model directory: {directory}", hint="it holds config.json and the weights")
    config = read_config(directory)
    if is_ours(config):
        model = load_model(directory).eval()
        check_finite(model, directory)
        model.scoring_dtype = None if dtype == "fp32" else DTYPES[dtype]
        return model
    from tttkit.models.hugging_face.loading import load_hugging_face

    return load_hugging_face(directory, config, dtype=DTYPES[dtype], trust_remote_code=trust_remote_code)


def find_model(path: str | Path) -> Path:
    """Return the directory that `path` names; `hf:NAME[@REVISION]` is downloaded, or found in the local cache."""
    if str(path).startswith("hf:"):
        from tttkit.models.hugging_face.hub import download

        return download(str(path).removeprefix("hf:"))
    return Path(path)


def is_ours(config: dict[str, Any]) -> bool:
    """Return whether a config.json describes a model of tttkit's own code: ours, exported or in the official format."""
    return config.get("model_type") in (None, "ttt", "tttkit")
