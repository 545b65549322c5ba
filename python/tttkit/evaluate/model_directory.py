"""Evaluate one model directory by the full protocol: find data and window, reuse known results, keep partial work."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tttkit.config.run import EvaluationConfig, build_config
from tttkit.data import load_manifest, open_split
from tttkit.data.manifest import Manifest
from tttkit.data.split import Split
from tttkit.device import prepare_cpu, resolve_device
from tttkit.errors import DataError, NumericalError, UsageError
from tttkit.evaluate.blocks import NllBlocks, evaluation_key, share_of
from tttkit.evaluate.evaluation import write_evaluation
from tttkit.evaluate.measure import evaluate_model
from tttkit.evaluate.plan import costs
from tttkit.evaluate.whole_split import nll_by_slot, score_split
from tttkit.models import LanguageModel, load_model, read_model_config
from tttkit.models.storage import weights_sha256
from tttkit.results.contexts import CONTEXTS
from tttkit.results.curves import CURVES_NAME, Curves
from tttkit.results.summary import SUMMARY_NAME, Summary
from tttkit.results.values import SEQUENCES_NAME
from tttkit.run.directory import RunDirectory, exclusive
from tttkit.storage import files
from tttkit.storage.commits import sweep_temporaries

SCHEMA = 3
"""Increase it when equal weights, data and protocol would give different files."""
_RESULTS = (SUMMARY_NAME, CURVES_NAME, SEQUENCES_NAME)
_USUAL_WINDOW = 64
_USUAL_MULTIPLE = 20
_USUAL_CHUNK = 16

Progress = Callable[[float], None]
"""Called with the share done; may raise to stop."""
Draw = Callable[[Curves, Path], Path]
"""Draws curves into a directory and returns the file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What to evaluate, and how. None means the default: everything in the split, W of the training, 20 x W."""

    path: Path
    """The model directory, or a checkpoint_NNN that kept its weights."""
    data: Path | None = None
    """DATA directory; None for that of the run to which the model belongs."""
    split: str = "validation"
    num_sequences: int | None = None
    max_length: int | None = None
    window: int | None = None
    sw_mode: str = "exact"
    device: str | None = None
    protocol: EvaluationConfig | None = None
    """Replaces `num_sequences`, `max_length` and `sw_mode`."""
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Additional keys of summary.json."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluatedModel:
    """The results of one model directory."""

    summary: Summary
    directory: Path
    written: tuple[Path, ...] = ()
    """Files that were written; empty where the results were known before."""
    messages: tuple[str, ...] = ()
    """What the user should know, a sentence each."""


def evaluate_model_directory(
    request: EvaluationRequest, directory: Path, *, progress: Progress | None = None, draw: Draw | None = None
) -> EvaluatedModel:
    """Evaluate one model directory into `directory`.

    Nothing is written where `directory` holds a summary of the same weights, data and protocol; such results of another
    model beside it are copied. A killed evaluation continues where it was. `draw` is called before summary.json is
    written, which makes the results known. Raises UsageError, DataError, NumericalError, DiskFullError, and
    RunLockedError while another evaluation writes to the same directory.
    """
    job = _prepare(request)
    known = _known_summary(directory, job.key)
    if known is not None and not any(entry.name.startswith(".") for entry in directory.iterdir()):
        return EvaluatedModel(summary=known, directory=directory)
    job.model.to(resolve_device(request.device))
    files.make_directory(directory)
    with exclusive(RunDirectory(directory)):
        sweep_temporaries(directory)
        result = EvaluatedModel(summary=known, directory=directory) if known is not None else None
        if result is None:
            neighbours = sorted(directory.parent.glob("eval_*"))
            twin = next((each for each in neighbours if _known_summary(each, job.key) is not None), None)
            if twin is None:
                return _measure(job, directory, progress, draw)
            result = _copy_results(twin, directory, job.facts, draw)
        # A process that was killed after it wrote the results left its blocks.
        NllBlocks.beside(directory, job.key).remove()
        return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """A request with everything that it names, read and checked."""

    model: LanguageModel
    split: Split
    protocol: EvaluationConfig
    window: int
    key: str
    """Equal keys give equal results."""
    facts: Mapping[str, Any]
    """Keys of summary.json that say what was evaluated."""


def _prepare(request: EvaluationRequest) -> _Job:
    """Read what a request names. Raises UsageError, DataError, NumericalError."""
    path = find_model_directory(request.path)
    config = read_model_config(path)
    data = request.data or _data_of_run(path)
    _check_tokenizer(path, config, load_manifest(data))
    split = open_split(data, request.split)
    window = request.window or _trained_window(path, config)
    protocol = request.protocol or _protocol(request, window, split.num_tokens)
    prepare_cpu()
    model = load_model(path)
    _check_finite(model, path)
    weights = weights_sha256(model)
    key = evaluation_key(
        schema=SCHEMA, weights=weights, data=split.fingerprint, split=request.split, window=window,
        protocol=dataclasses.asdict(protocol),
    )  # fmt: skip
    facts = {
        "model": model.config.name, "path": str(request.path), "split": request.split,
        "data_fingerprint": split.fingerprint, "weights_sha256": weights, "evaluation_key": key, **request.facts,
    }  # fmt: skip
    return _Job(model=model, split=split, protocol=protocol, window=window, key=key, facts=facts)


def _measure(job: _Job, directory: Path, progress: Progress | None, draw: Draw | None) -> EvaluatedModel:
    """Evaluate in every context, then score the whole split; write the results."""
    started = time.perf_counter()
    blocks = NllBlocks.beside(directory, job.key)
    size = job.model.config.mini_batch_size
    tokens = sum(costs(job.protocol, job.window, size).values())
    share = tokens / (tokens + job.split.num_tokens)
    share_of(progress, 0.0, share)(0.0)
    evaluation = evaluate_model(
        job.model, job.split, job.protocol, window=job.window, progress=share_of(progress, 0.0, share), blocks=blocks
    )
    whole = score_split(
        job.model, job.split, stride=job.window, progress=share_of(progress, share, 1 - share), blocks=blocks
    )
    facts = {
        **job.facts,
        "eval_seconds": time.perf_counter() - started,
        "mini_batch_size": size,
        "whole_split": whole.to_dict(),
        "nll_by_slot": {context: nll_by_slot(nll, size, job.window) for context, nll in evaluation.nll.items()},
    }
    plots: list[Path] = []

    def plot(curves: Curves) -> None:
        plots.extend([] if draw is None else [draw(curves, directory)])

    summary = write_evaluation(directory, evaluation, facts, before_summary=plot)
    blocks.remove()
    return EvaluatedModel(summary=summary, directory=directory, written=(*_result_files(directory), *plots))


def _copy_results(twin: Path, directory: Path, facts: Mapping[str, Any], draw: Draw | None) -> EvaluatedModel:
    """Copy results of the same weights, data and protocol: those of best_model where final_model is the same."""
    for name in (SEQUENCES_NAME, CURVES_NAME):
        files.write_bytes(directory / name, (twin / name).read_bytes())
    plots = [] if draw is None else [draw(Curves.read(directory / CURVES_NAME), directory)]
    summary = Summary({**Summary.read(twin / SUMMARY_NAME).to_dict(), **facts})
    summary.write(directory / SUMMARY_NAME)
    message = f"{facts['path']} has the weights of an earlier evaluation, whose results were copied: {twin}"
    written = (*_result_files(directory), *plots)
    return EvaluatedModel(summary=summary, directory=directory, written=written, messages=(message,))


def _result_files(directory: Path) -> list[Path]:
    return [directory / name for name in _RESULTS]


def _known_summary(directory: Path, key: str) -> Summary | None:
    """The summary in `directory` if it has this key and every context, and its files are complete."""
    if not all(path.exists() for path in _result_files(directory)):
        return None
    try:
        summary = Summary.read(directory / SUMMARY_NAME)
    except DataError:
        return None
    is_complete = all(summary.has_context(name) for name in CONTEXTS)
    return summary if is_complete and summary.get("evaluation_key") == key else None


def _protocol(request: EvaluationRequest, window: int, num_tokens: int) -> EvaluationConfig:
    """The full protocol: all of the split, 20 x W, unless the request says otherwise."""
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
    """Return `path`, or the `model` folder of a checkpoint_NNN that kept its weights. Raises UsageError."""
    if not path.is_dir():
        problem = "is a file" if path.exists() else "does not exist"
        raise UsageError(
            f"expected a model directory, but {path} {problem}",
            hint="a model directory holds config.json and model.safetensors",
        )
    if (path / "metadata.json").exists():
        raise UsageError(f"{path} is a run, not a model", hint=f"evaluate {path / 'best_model'}")
    if (path / SUMMARY_NAME).exists() and not (path / "config.json").exists():
        if not (path / "model").is_dir():
            raise UsageError(
                f"{path} holds results but no weights",
                hint="train with --keep-weights, or evaluate best_model or final_model",
            )
        return path / "model"
    return path


def _data_of_run(path: Path) -> Path:
    """DATA of the run that owns a model directory. Raises UsageError when there is no such run."""
    for parent in list(path.absolute().parents)[:3]:
        run = RunDirectory(parent)
        if run.metadata.exists():
            recorded = run.read_metadata().get("data", {}).get("path")
            if recorded:
                return Path(recorded)
    raise UsageError(f"{path} belongs to no run, so its data are not known", hint="name them: --data DATA")


def _trained_window(path: Path, config: dict[str, Any]) -> int:
    """The window in config.json; 64 for a model that was not trained by tttkit."""
    window = config.get("window", _USUAL_WINDOW)
    if not isinstance(window, int) or window < 1:
        raise DataError(f"{path / 'config.json'}: window must be a whole number of at least 1, got {window!r}")
    return window


def _check_tokenizer(path: Path, config: dict[str, Any], manifest: Manifest) -> None:
    expected = config.get("tokenizer_sha256")
    if expected is not None and expected != manifest.tokenizer_sha256:
        raise DataError(
            f"{path} was trained with tokenizer {str(expected)[:12]}, but the data were prepared with "
            f"{manifest.tokenizer_sha256[:12]}",
            hint=f"prepare the data with --tokenizer {path / 'tokenizer.json'}",
        )


def _check_finite(model: LanguageModel, path: Path) -> None:
    spoiled = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if spoiled:
        raise NumericalError(
            f"weights in {path} are not finite: {spoiled[0]}{f' and {len(spoiled) - 1} more' * (len(spoiled) > 1)}",
            hint="the training run that wrote them diverged",
        )
