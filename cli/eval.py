"""`tttkit eval`: the full protocol on a model directory."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from tttkit.errors import DataError, UsageError
from tttkit.files import json_safe

from .console import err, print_json, print_table, progress_bar
from .tables import evaluation_table

eval_app = typer.Typer(no_args_is_help=False, help="Perplexity by position, in every context.")


@eval_app.callback()
def _eval() -> None:
    """Perplexity by position, in every context."""


@eval_app.command("checkpoint")
def checkpoint(
    paths: Annotated[
        list[Path], typer.Argument(help="Model directories: ours, or in the official format.", metavar="PATH…")
    ],
    data: Annotated[
        Path | None, typer.Option(help="DATA directory (default: that of the run PATH is in).", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(help="Split to evaluate on.")] = "validation",
    num_sequences: Annotated[
        int | None, typer.Option(help="Sequences (default: all that the split holds).", min=1, show_default=False)
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Length T of a sequence (default: 20 x W).", min=2, show_default=False)
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Window W (default: the one it was trained on, else 64).", min=1, show_default=False),
    ] = None,
    sw_mode: Annotated[
        str, typer.Option(help="Sliding window `exact` everywhere, or at the labelled `positions`.")
    ] = "exact",
    output: Annotated[
        Path | None, typer.Option("--out", help="Where to write (default: beside PATH).", show_default=False)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N (default: the GPU, if any).", show_default=False)
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the summaries as JSON.")] = False,
) -> None:
    """Evaluate weights in the contexts full, sw, sw_aligned and reset, with intervals; writes JSON and a plot.

    Example: `tttkit eval checkpoint runs/quick/best_model`
    """
    summaries = []
    for path in paths:
        request = _Request(path, data, split, num_sequences, max_length, window, sw_mode, device)
        target = output if len(paths) == 1 and output else (output / path.name if output else path.parent)
        summary, written = _evaluate(request, target / f"eval_{path.name}" if output is None else target)
        summaries.append(summary)
        if not json_output:
            print_table(evaluation_table(summary))
        for file in written:
            err.print(f"wrote [path]{escape(str(file))}[/]", soft_wrap=True)
    if json_output:
        print_json(json_safe(summaries[0] if len(summaries) == 1 else summaries))


@dataclasses.dataclass(frozen=True)
class _Request:
    path: Path
    data: Path | None
    split: str
    num_sequences: int | None
    max_length: int | None
    window: int | None
    sw_mode: str
    device: str | None


def _evaluate(request: _Request, directory: Path) -> tuple[dict[str, Any], list[Path]]:
    """Evaluate one model directory; returns the summary and the files written."""
    import torch

    from tttkit.config import build_config
    from tttkit.data import load_manifest, open_split
    from tttkit.device import resolve_device
    from tttkit.evaluate.checkpoint import evaluate_model, write_checkpoint
    from tttkit.models import load_model, read_model_config
    from tttkit.models.digest import weights_sha256
    from tttkit.report.plots import chunk_eval_name, plot_chunk_eval

    path = _model_directory(request.path)
    config = read_model_config(path)
    data = request.data or _data_of_run(path)
    _check_tokenizer(path, config, load_manifest(data))
    split = open_split(data, request.split)
    window = request.window or _trained_window(path, config)
    max_length = request.max_length or 20 * window
    protocol = build_config(
        {
            "model": {"mini_batch_size": 1},
            "train": {"window": window},
            "evaluation": {
                "max_length": max_length,
                "num_sequences": request.num_sequences or max(1, split.num_tokens // (max_length + 1)),
                "sw_mode": request.sw_mode,
                "chunk_size": min(16, window),
                "chunk_stride": min(16, window),
            },
        }
    ).evaluation
    torch.set_flush_denormal(True)
    model = load_model(path).to(resolve_device(request.device))
    started = time.perf_counter()
    with _EvalProgress(path) as progress:
        evaluation = evaluate_model(model, split, protocol, window=window, progress=progress.update)
    extra = {
        "model": model.config.name,
        "path": str(request.path),
        "split": request.split,
        "data_fingerprint": split.fingerprint,
        "weights_sha256": weights_sha256(model),
        "eval_seconds": time.perf_counter() - started,
    }
    summary = write_checkpoint(directory, evaluation, extra)
    plot = plot_chunk_eval(evaluation.curves(), directory / chunk_eval_name(evaluation.curves()))
    return summary, [directory / "summary.json", directory / "chunk_eval.json", plot]


def _model_directory(path: Path) -> Path:
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
    from tttkit.rundir import RunDirectory

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
