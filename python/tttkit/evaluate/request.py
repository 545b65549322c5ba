"""A request to evaluate one model directory: find and check the model, its data, its window and the protocol."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttkit.config.dynamic import DynamicConfig
from tttkit.config.run import EvaluationConfig, build_config
from tttkit.data import open_split
from tttkit.data.hub import stay_offline_if_unreachable
from tttkit.data.split import Split
from tttkit.device import prepare_cpu
from tttkit.errors import DataError, UsageError
from tttkit.evaluate.adaptation import select_parameters
from tttkit.evaluate.blocks import evaluation_key
from tttkit.evaluate.bos import bos_in_front, longest_window
from tttkit.evaluate.sequences import text_facts
from tttkit.evaluate.tokenizers import check_tokenizer
from tttkit.models import load_scoring_model
from tttkit.models.hugging_face.directory import read_config, trained_positions
from tttkit.models.load import find_model, is_ours
from tttkit.models.scoring import LoadedModel
from tttkit.results.summary import SUMMARY_NAME
from tttkit.run.data_location import data_of_run
from tttkit.run.directory import RunDirectory

SCHEMA = 3
"""Increase it when equal weights, data and protocol would give different files."""
TRAINING_SPLIT = "train"
_USUAL_WINDOW = 64
_USUAL_MULTIPLE = 20
_USUAL_CHUNK = 16
_USUAL = {"dtype": "fp32", "bos_id": None}
"""Facts that are not a part of the key, so that results of earlier versions keep theirs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """A model to evaluate, and how. None means the default: the whole split, the training window W, 20 x W."""

    path: Path
    """The model directory, or a checkpoint_NNN that kept its weights."""
    data: Path | None = None
    """DATA directory; None for the data of the run that owns the model."""
    split: str = "validation"
    num_sequences: int | None = None
    max_length: int | None = None
    window: int | None = None
    sw_mode: str = "exact"
    device: str | None = None
    dtype: str = "fp32"
    """The type in which the model computes: auto, fp32, bf16 or fp16."""
    bos: str = "auto"
    """Whether the model's BOS stands in front of every context: auto, always or never."""
    trust_remote_code: bool = False
    """Whether Python code in the model directory may run."""
    dynamic: DynamicConfig | None = None
    """Settings of the context `dynamic`; None leaves it out."""
    protocol: EvaluationConfig | None = None
    """Replaces `num_sequences`, `max_length` and `sw_mode`."""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Additional keys of summary.json."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationJob:
    """A request with everything that it names, read and checked."""

    model: LoadedModel
    split: Split
    protocol: EvaluationConfig
    window: int
    key: str
    """Equal keys give equal results."""
    facts: Mapping[str, Any]
    """Keys of summary.json that say what was evaluated."""
    bos: str = "never"
    """As in the request."""
    dynamic: DynamicConfig | None = None
    """As in the request."""
    training: Split | None = None
    """The training split of the data, if there is one that the evaluated split is not."""
    messages: tuple[str, ...] = ()
    """Sentences for the user about model and data."""


def check_request(request: EvaluationRequest) -> None:
    """Refuse a request whose model, data and window do not fit together, before any model is loaded.

    Raises UsageError, DataError.
    """
    path = find_model_directory(request.path)
    config = read_config(path)
    data = data_directory(request)
    check_tokenizer(path, config, data)
    open_split(data, request.split)
    if request.window is None:
        trained_window(path, config)


def prepare(request: EvaluationRequest) -> EvaluationJob:
    """Read what a request names. Raises UsageError, DataError, NumericalError."""
    path = find_model_directory(request.path)
    config = read_config(path)
    data = data_directory(request)
    unknown_tokenizer = check_tokenizer(path, config, data)
    split = open_split(data, request.split)
    window = request.window or trained_window(path, config)
    protocol = request.protocol or _protocol(request, window, split.num_tokens)
    prepare_cpu()
    model = load_scoring_model(path, request.dtype, request.trust_remote_code)
    training = _training_split(request, data)
    if request.dynamic is not None:
        select_parameters(model.module, request.dynamic.parameters)
    weights = model.weights_sha256()
    how = _how(model, request)
    key = evaluation_key(
        schema=SCHEMA, weights=weights, data=split.fingerprint, split=request.split, window=window,
        protocol=dataclasses.asdict(protocol), **{name: how[name] for name in how if how[name] != _USUAL.get(name)},
    )  # fmt: skip
    facts = {
        "model": model.name, "path": str(request.path), "split": request.split, "data_fingerprint": split.fingerprint,
        **text_facts(split), "weights_sha256": weights, "evaluation_key": key, **how,
        **_bos_fact(model, request.bos), **_limits(model, request, protocol), **request.facts,
    }  # fmt: skip
    messages = (*((unknown_tokenizer,) if unknown_tokenizer else ()), *model.notes)
    return EvaluationJob(
        model=model, split=split, protocol=protocol, window=window, key=key, facts=facts, bos=request.bos,
        dynamic=request.dynamic, training=training, messages=messages,
    )  # fmt: skip


def _how(model: LoadedModel, request: EvaluationRequest) -> dict[str, Any]:
    """Return the facts about how the model is run that change its figures."""
    return {"dtype": request.dtype, "bos_id": bos_in_front(model, request.bos)}


def _bos_fact(model: LoadedModel, bos: str) -> dict[str, Any]:
    """Return whether a BOS stands in front of every context, for a model that has one."""
    return {} if model.bos_id is None else {"has_bos": bos_in_front(model, bos) is not None}


def _training_split(request: EvaluationRequest, data: Path) -> Split | None:
    """Return the training split for `dynamic`. Raises UsageError if its optimizer needs one and there is none."""
    if request.dynamic is None or request.dynamic.optimizer != "rms":
        return None
    if request.split == TRAINING_SPLIT:
        raise UsageError(
            "the rule rms of `dynamic` needs gradients on the training split, which is the one that is evaluated",
            hint="evaluate another split, or use --dynamic-optimizer sgd",
        )
    return open_split(data, TRAINING_SPLIT)


def _limits(model: LoadedModel, request: EvaluationRequest, protocol: EvaluationConfig) -> dict[str, Any]:
    """Return the settings of `dynamic`, why a context lacks figures, and the length of training if it is known."""
    facts: dict[str, Any] = {} if request.dynamic is None else {"dynamic": dataclasses.asdict(request.dynamic)}
    longest = longest_window(model, bos_in_front(model, request.bos))
    reasons: dict[str, str] = {}
    if longest is not None and longest < protocol.max_length:
        names = ["full"] if request.dynamic is None else ["full", "dynamic"]
        reasons = {name: f"the model has {longest} positions, so `{name}` ends there" for name in names}
    if request.dynamic is not None and not model.can_carry:
        reasons["dynamic"] = f"the {model.name} model cannot be read in segments, which `dynamic` needs"
    if reasons:
        facts["not_measured"] = reasons
    trained = model.trained_positions
    return facts if trained is None else {**facts, "trained_length": trained}


def _protocol(request: EvaluationRequest, window: int, num_tokens: int) -> EvaluationConfig:
    """Return the full protocol, the whole split and 20 x W, unless the request says otherwise."""
    max_length = request.max_length or _USUAL_MULTIPLE * window
    size = min(_USUAL_CHUNK, window)
    values = {
        "max_length": max_length,
        "num_sequences": request.num_sequences or max(1, num_tokens // (max_length + 1)),
        "sw_mode": request.sw_mode,
        "chunk_size": size,
        # With this stride a chunk ends at every multiple of the window.
        "chunk_stride": math.gcd(size, window),
    }
    sections = {"model": {"mini_batch_size": 1}, "train": {"window": window}, "evaluation": values}
    return build_config(sections).evaluation


def find_model_directory(path: Path) -> Path:
    """Return `path`, or the `model` folder of a checkpoint_NNN that kept its weights. Raises UsageError.

    `hf:NAME[@REVISION]` is downloaded, or found in the local cache.
    """
    if str(path).startswith("hf:"):
        stay_offline_if_unreachable()
        return find_model(path)
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise UsageError(f"expected a model directory, but {path} {problem}", hint=_models_of(path.parent))
    if _is_run(path):
        raise UsageError(f"{path} is a run, not a model", hint=_models_of(path))
    if (path / SUMMARY_NAME).exists() and not (path / "config.json").exists():
        if not (path / "model").is_dir():
            raise UsageError(
                f"{path} holds results but no weights",
                hint="train with --keep-weights, or evaluate best_model or final_model",
            )
        return path / "model"
    return path


def _is_run(path: Path) -> bool:
    return (path / "metadata.json").exists()


def _models_of(path: Path) -> str:
    """Return a hint that names the models of a run, or says what a model is if `path` is no run."""
    if not _is_run(path):
        return "a model directory holds config.json and model.safetensors"
    found = [str(path / name) for name in ("best_model", "final_model") if (path / name).is_dir()]
    return f"its models: {', '.join(found)}" if found else f"{path} has no models yet: its first evaluation writes one"


def data_directory(request: EvaluationRequest) -> Path:
    """Return the DATA directory of a request, or of the run that owns the model.

    Raises UsageError if no run owns it.
    """
    if request.data is not None:
        return request.data
    path = find_model_directory(request.path)
    for parent in list(path.absolute().parents)[:3]:
        run = RunDirectory(parent)
        if run.metadata.exists() and (data := data_of_run(run)) is not None:
            return data
    raise UsageError(f"{path} belongs to no run, so its data is unknown", hint="name the data: --data DATA")


def trained_window(path: Path, config: dict[str, Any]) -> int:
    """Return the window in config.json; 64 for a model in the official format. Raises UsageError for other models."""
    if "window" not in config and not is_ours(config):
        length = trained_positions(config)
        said = "" if length is None else f" (it reads up to {length} tokens)"
        raise UsageError(
            f"{path} does not say on which window it was trained{said}, and a foreign model has no default",
            hint="name the window W in tokens: --window W",
        )
    window = config.get("window", _USUAL_WINDOW)
    if not isinstance(window, int) or window < 1:
        raise DataError(f"{path / 'config.json'}: window must be a whole number of at least 1, got {window!r}")
    return window
