"""`tttkit eval`: the full protocol on model directories, or on what a run has not evaluated yet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from tttkit.errors import UsageError
from tttkit.run.directory import RunDirectory, exclusive, find_run
from tttkit.storage.files import json_safe
from tttkit_cli.console import err, print_json, print_table, room
from tttkit_cli.eval_model import Request, evaluate
from tttkit_cli.stopping import stoppable
from tttkit_cli.views.tables import evaluation_table, models_table, ratios_table, slots_table, whole_split_table

Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N (default: the GPU, if any).", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the summaries as JSON.")]

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
    device: Device = None,
    json_output: Json = False,
) -> None:
    """Evaluate weights in the contexts full, sw, sw_aligned and reset, with intervals; writes JSON and a plot.

    Several models are set side by side too, in one table and one plot, `models.png`, in --out or beside the first.

    Examples: `tttkit eval checkpoint runs/quick/best_model` ·
    `tttkit eval checkpoint runs/ttt/best_model runs/sw/best_model runs/transformer/best_model --max-length 6400`
    """
    done = []
    with stoppable():
        for name, path in zip(_names(paths), paths, strict=True):
            request = Request(path, data, split, num_sequences, max_length, window, sw_mode, device)
            beside = path.parent / f"eval_{path.name}"
            target = beside if output is None else output if len(paths) == 1 else output / name.replace("/", "-")
            summary, written = evaluate(request, target)
            done.append((name, summary, target))
            _say_written(path, written)
    if len(done) > 1:
        err.print(f"wrote [path]{escape(str(_plot(done, output or paths[0].parent)))}[/]", soft_wrap=True)
    _show(done, json_output=json_output)


@eval_app.command("run")
def run(
    path: Annotated[
        Path | None, typer.Argument(help="RUN directory (default: the newest under runs/).", metavar="RUN")
    ] = None,
    device: Device = None,
    json_output: Json = False,
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
        done = []
        for request, target in jobs:
            summary, written = evaluate(request, target)
            done.append((request.path.name, summary, target))
            _say_written(request.path, written)
        _add_to_list(directory)
    _show(done, json_output=json_output)


def _missing(run: RunDirectory, device: str | None) -> list[tuple[Request, Path]]:
    """Checkpoints without a readable result, under the run's own protocol; then best and final model in full."""
    from tttkit.config.run import build_config
    from tttkit.train.schedule import evaluation_steps

    config = build_config(run.read_metadata().get("config", {}))
    steps = evaluation_steps(config.train.max_steps, config.evaluation.num_checkpoints)
    tokens = config.train.tokens_per_step
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
    from tttkit.storage.files import read_json, write_json

    listed = {item.get("checkpoint_idx"): item for item in run.read_summaries()}
    found = {index: read_json(path / "summary.json") for index, path in run.checkpoints().items()
             if index not in listed and (path / "summary.json").exists()}  # fmt: skip
    if found:
        together: dict[Any, Any] = {**listed, **found}
        write_json(run.summaries, [together[index] for index in sorted(together)])


def _say_written(path: Path, written: list[Path]) -> None:
    if not written:
        err.print(f"[path]{escape(str(path))}[/]: evaluated before, same weights, data and protocol", soft_wrap=True)
    for file in written:
        err.print(f"wrote [path]{escape(str(file))}[/]", soft_wrap=True)


def _names(paths: list[Path]) -> list[str]:
    """What models are called: their folder, with the one above it where two have the same. Raises UsageError."""
    found = [path.absolute() for path in paths]
    names = [path.name for path in found]
    names = [
        f"{path.parent.name}/{name}" if names.count(name) > 1 else name for path, name in zip(found, names, strict=True)
    ]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two models are both called {twice}", hint="name each once, or evaluate them one by one")
    return names


def _plot(done: list[tuple[str, dict[str, Any], Path]], directory: Path) -> Path:
    """All models in one figure."""
    from tttkit.report.figures.models import MODELS_NAME, plot_models
    from tttkit.storage.files import read_json

    named = [(name, read_json(target / "chunk_eval.json")) for name, _, target in done]
    return plot_models(named, directory / f"{MODELS_NAME}.png")


def _show(done: list[tuple[str, dict[str, Any], Path]], *, json_output: bool) -> None:
    summaries = [summary for _, summary, _ in done]
    if json_output:
        print_json(json_safe(summaries[0] if len(summaries) == 1 else summaries))
        return
    for summary in summaries:
        print_table(evaluation_table(summary, width=room()))
        slots = slots_table(summary)
        if slots is not None:
            print_table(slots)
    print_table(whole_split_table(summaries))
    if len(done) > 1:
        _show_side_by_side(done)


def _show_side_by_side(done: list[tuple[str, dict[str, Any], Path]]) -> None:
    from tttkit.analyze.models import differences, paired, side_by_side

    named = [(name, summary) for name, summary, _ in done]
    for name, summary in named[1:]:
        other = differences(named[0][1], summary)
        if other:
            text = f"{name} cannot be compared with {named[0][0]}: {', '.join(other)} differ"
            err.print(f"[warning]{escape(text)}[/]", soft_wrap=True)
    print_table(models_table(side_by_side(named)), num_keys=2)
    rows = paired(named, [target for _, _, target in done])
    if rows:
        print_table(ratios_table(rows, named[0][0]), num_keys=2)
