"""`tttkit eval`: the full protocol on model directories, or on what a run has not evaluated yet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from tttkit.errors import UsageError
from tttkit.files import json_safe
from tttkit.rundir import RunDirectory, exclusive, find_run

from .console import err, print_json, print_table
from .eval_model import Request, evaluate
from .stopping import stoppable
from .tables import evaluation_table, whole_split_table

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
    with stoppable():
        for path in paths:
            request = Request(path, data, split, num_sequences, max_length, window, sw_mode, device)
            target = output if len(paths) == 1 and output else (output / path.name if output else path.parent)
            summary, written = evaluate(request, target / f"eval_{path.name}" if output is None else target)
            summaries.append(summary)
            _say_written(path, written)
    _show(summaries, json_output=json_output)


@eval_app.command("run")
def run(
    path: Annotated[
        Path | None, typer.Argument(help="RUN directory (default: the newest under runs/).", metavar="RUN")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N (default: the GPU, if any).", show_default=False)
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the summaries as JSON.")] = False,
) -> None:
    """Evaluate what is missing: best_model and final_model in full, checkpoints that kept weights but have no result.

    Example: `tttkit eval run runs/quick`
    """
    directory = find_run(path)
    with exclusive(directory), stoppable():
        jobs = _missing(directory, device)
        if not jobs:
            raise UsageError(
                f"{directory.path} keeps no weights that could be evaluated",
                hint="best_model appears with the first evaluation; --keep-weights keeps every checkpoint's",
            )
        summaries = []
        for request, target in jobs:
            summary, written = evaluate(request, target)
            summaries.append(summary)
            _say_written(request.path, written)
        _add_to_list(directory)
    _show(summaries, json_output=json_output)


def _missing(run: RunDirectory, device: str | None) -> list[tuple[Request, Path]]:
    """Checkpoints without a readable result, under the run's own protocol; then best and final model in full."""
    from tttkit.config import build_config
    from tttkit.train.schedule import evaluation_steps

    config = build_config(run.read_metadata().get("config", {}))
    steps = evaluation_steps(config.train.max_steps, config.evaluation.num_checkpoints)
    tokens = config.train.window * config.train.batch_size * config.train.grad_accumulation
    jobs = []
    for index, directory in run.checkpoints().items():
        whole = all((directory / name).exists() for name in ("summary.json", "chunk_eval.json"))
        if (directory / "model").is_dir() and not whole and index < len(steps):
            extra = {"checkpoint_idx": index, "step": steps[index], "training_loss": None,
                     "tokens_seen": steps[index] * tokens}  # fmt: skip
            request = Request(
                directory / "model", None, "validation", None, None, config.train.window, "exact", device,
                config.evaluation, extra,
            )  # fmt: skip
            jobs.append((request, directory))
    for path in (run.best_model, run.final_model):
        if path.is_dir():
            request = Request(path, None, "validation", None, None, None, "exact", device)
            jobs.append((request, run.path / f"eval_{path.name}"))
    return jobs


def _add_to_list(run: RunDirectory) -> None:
    """Put summaries that all_summaries.json lacks into it."""
    from tttkit.files import read_json, write_json

    listed = {item.get("checkpoint_idx"): item for item in run.read_summaries()}
    found = {index: read_json(path / "summary.json") for index, path in run.checkpoints().items()
             if index not in listed and (path / "summary.json").exists()}  # fmt: skip
    if found:
        together = {**listed, **found}
        write_json(run.summaries, [together[index] for index in sorted(together)])


def _say_written(path: Path, written: list[Path]) -> None:
    if not written:
        err.print(f"[path]{escape(str(path))}[/]: evaluated before, same weights, data and protocol", soft_wrap=True)
    for file in written:
        err.print(f"wrote [path]{escape(str(file))}[/]", soft_wrap=True)


def _show(summaries: list[dict[str, Any]], *, json_output: bool) -> None:
    if json_output:
        print_json(json_safe(summaries[0] if len(summaries) == 1 else summaries))
        return
    for summary in summaries:
        print_table(evaluation_table(summary))
    print_table(whole_split_table(summaries))
