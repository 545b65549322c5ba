"""One model directory through the full protocol: its data and window found, done work kept, known results reused."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, Self

from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from tttkit.errors import DataError, NumericalError, UsageError
from tttkit.run.directory import RunDirectory, exclusive
from tttkit.storage.commits import sweep_temporaries
from tttkit.storage.files import make_directory
from tttkit_cli.console import err, progress_bar

SCHEMA = 3
"""Counts up when equal weights, data and protocol would give other files."""
_RESULTS = ("summary.json", "chunk_eval.json", "chunk_nll.safetensors")


@dataclasses.dataclass(frozen=True)
class Request:
    """What to evaluate and how."""

    path: Path
    data: Path | None
    split: str
    num_sequences: int | None
    max_length: int | None
    window: int | None
    sw_mode: str
    device: str | None
    protocol: Any = None
    """An EvaluationConfig that replaces the four options before it."""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further keys of summary.json."""


def evaluate(request: Request, directory: Path) -> tuple[dict[str, Any], list[Path]]:
    """Evaluate one model directory into `directory`; returns the summary and the files written.

    None are written where a summary of the same weights, data and protocol is there already; one that is there for
    another model beside it is taken over. A killed evaluation goes on where it was. Raises RunLockedError while another
    one writes to the same directory.
    """
    from tttkit.data import load_manifest, open_split
    from tttkit.device import prepare_cpu, resolve_device
    from tttkit.evaluate.blocks import NllBlocks, evaluation_key
    from tttkit.models import load_model, read_model_config
    from tttkit.models.storage import weights_sha256

    path = model_directory(request.path)
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
    known, written = _known_summary(directory, key), list[Path]()
    if known is not None and not any(entry.name.startswith(".") for entry in directory.iterdir()):
        return known, written
    extra = {
        "model": model.config.name, "path": str(request.path), "split": request.split,
        "data_fingerprint": split.fingerprint, "weights_sha256": weights, "evaluation_key": key, **request.extra,
    }  # fmt: skip
    model = model.to(resolve_device(request.device))
    make_directory(directory)
    with exclusive(RunDirectory(directory)):
        sweep_temporaries(directory)
        if known is None:
            beside = sorted(directory.parent.glob("eval_*"))
            twin = next((each for each in beside if _known_summary(each, key) is not None), None)
            if twin is None:
                return _measure(path, model, split, protocol, window, directory, extra)
            known, written = _take_over(twin, directory, extra)
        NllBlocks.beside(directory, key).remove()  # a kill after the last of the results left them
        return known, written


def _check_finite(model: Any, path: Path) -> None:
    spoiled = [name for name, tensor in model.state_dict().items() if not tensor.isfinite().all()]
    if spoiled:
        raise NumericalError(
            f"weights in {path} are not finite: {spoiled[0]}{f' and {len(spoiled) - 1} more' * (len(spoiled) > 1)}",
            hint="the training that wrote them had diverged",
        )


def _measure(
    path: Path,
    model: Any,
    split: Any,
    protocol: Any,
    window: int,
    directory: Path,
    extra: dict[str, Any],
) -> tuple[dict[str, Any], list[Path]]:
    from tttkit.evaluate.blocks import NllBlocks, share_of
    from tttkit.evaluate.checkpoint import evaluate_model, write_checkpoint
    from tttkit.evaluate.plan import costs
    from tttkit.evaluate.whole_split import nll_by_slot, score_split
    from tttkit.report.figures.position import chunk_eval_name, plot_chunk_eval

    started = time.perf_counter()
    blocks = NllBlocks.beside(directory, extra["evaluation_key"])
    size = model.config.mini_batch_size
    contexts = sum(costs(protocol, window, size).values())
    share = contexts / (contexts + split.num_tokens)  # of the evaluation in its contexts; the rest is the whole split
    with _EvalProgress(path) as progress:
        tick = share_of(progress.update, 0.0, share)
        evaluation = evaluate_model(model, split, protocol, window=window, progress=tick, blocks=blocks)
        tick = share_of(progress.update, share, 1 - share)
        whole = score_split(model, split, stride=window, progress=tick, blocks=blocks)
    extra |= {
        "eval_seconds": time.perf_counter() - started,
        "mini_batch_size": size,
        "whole_split": whole.to_dict(),
        "nll_by_slot": {context: nll_by_slot(nll, size, window) for context, nll in evaluation.nll.items()},
    }
    plot = plot_chunk_eval(evaluation.curves(), directory / chunk_eval_name(evaluation.curves()))
    summary = write_checkpoint(directory, evaluation, extra)  # its summary.json is the last: what makes all of it known
    blocks.remove()
    return summary, [*(directory / name for name in _RESULTS), plot]


def _take_over(twin: Path, directory: Path, extra: dict[str, Any]) -> tuple[dict[str, Any], list[Path]]:
    """Results of the same weights, data and protocol: of best_model where final_model is the same."""
    from tttkit.report.figures.position import chunk_eval_name, plot_chunk_eval
    from tttkit.results.curves import Curves
    from tttkit.storage.files import read_json, write_bytes, write_json

    text = f"{extra['path']} has the weights of an earlier evaluation, whose results are taken: {twin}"
    err.print(escape(text), soft_wrap=True)
    for name in ("chunk_nll.safetensors", "chunk_eval.json"):
        write_bytes(directory / name, (twin / name).read_bytes())
    curves = Curves.read(directory / "chunk_eval.json")
    plot = plot_chunk_eval(curves, directory / chunk_eval_name(curves))
    summary = {**read_json(twin / "summary.json"), **extra}
    write_json(directory / "summary.json", summary)
    return summary, [*(directory / name for name in _RESULTS), plot]


def _protocol(request: Request, window: int, num_tokens: int) -> Any:
    """The full protocol: all of the split, 20 x W, unless the request says otherwise."""
    from tttkit.config.run import build_config

    max_length = request.max_length or 20 * window
    # The stride is such that a chunk ends at every multiple of the window.
    size = min(16, window)
    values = {
        "max_length": max_length,
        "num_sequences": request.num_sequences or max(1, num_tokens // (max_length + 1)),
        "sw_mode": request.sw_mode,
        "chunk_size": size,
        "chunk_stride": math.gcd(size, window),
    }
    sections = {"model": {"mini_batch_size": 1}, "train": {"window": window}, "evaluation": values}
    return build_config(sections).evaluation


def _known_summary(directory: Path, key: str) -> dict[str, Any] | None:
    """The summary in `directory` where it is of this key and whole."""
    from tttkit.storage.files import read_json

    if not all((directory / name).exists() for name in _RESULTS):
        return None
    try:
        summary = read_json(directory / "summary.json")
    except DataError:
        return None
    return summary if isinstance(summary, dict) and summary.get("evaluation_key") == key else None


def model_directory(path: Path) -> Path:
    """`path`, or the `model` folder of a checkpoint_NNN that kept its weights. Raises UsageError."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UsageError(
            f"expected a model directory, but {path} {what}", hint="it holds config.json and model.safetensors"
        )
    if (path / "metadata.json").exists():
        raise UsageError(f"{path} is a run, not a model", hint=f"evaluate {path / 'best_model'}")
    if (path / "summary.json").exists() and not (path / "config.json").exists():
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
    raise UsageError(f"{path} belongs to no run, so its data is not known", hint="name it: --data DATA")


def _trained_window(path: Path, config: dict[str, Any]) -> int:
    """The window that config.json records; 64 for a model that was not trained by us."""
    window = config.get("window", 64)
    if not isinstance(window, int) or window < 1:
        raise DataError(f"{path / 'config.json'}: window must be a whole number of at least 1, got {window!r}")
    return window


def _check_tokenizer(path: Path, config: dict[str, Any], manifest: Any) -> None:
    expected = config.get("tokenizer_sha256")
    if expected is not None and expected != manifest.tokenizer_sha256:
        raise DataError(
            f"{path} was trained with tokenizer {str(expected)[:12]}, the data was made with "
            f"{manifest.tokenizer_sha256[:12]}",
            hint=f"prepare the data with --tokenizer {path / 'tokenizer.json'}",
        )


class _EvalProgress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, path: Path) -> None:
        self._progress = progress_bar(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._task = self._progress.add_task(escape(f"evaluating {path}"), total=1.0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, share: float) -> None:
        self._progress.update(self._task, completed=share)
