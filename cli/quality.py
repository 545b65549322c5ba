"""`tttkit quality`: let models continue real text, and measure what they write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from tttkit.storage.files import json_safe
from tttkit_cli.console import err, print_json, print_table
from tttkit_cli.eval_targets import names_of, targets_of
from tttkit_cli.measured import say_measured, say_written
from tttkit_cli.model_options import Data, Device, Json, Models, RemoteCode, Split, Window, output_option
from tttkit_cli.stopping import stoppable
from tttkit_cli.views.eval_progress import EvaluationProgress
from tttkit_cli.views.quality import KEYS, differences_table, quality_table
from tttkit_cli.views.units import duration, size

if TYPE_CHECKING:
    from tttkit.evaluate.request import EvaluationRequest
    from tttkit.quality.directory import MeasuredModel
    from tttkit.quality.settings import Settings
    from tttkit.results.quality import Quality

Lengths = Annotated[
    list[int] | None,
    typer.Option(
        "--prompt-length",
        help="Tokens of a prompt; may be repeated (default: 1, 5 and 20 x W).",
        min=1,
        show_default=False,
    ),
]
Prompts = Annotated[int, typer.Option(help="Number of prompts.", min=2)]
MaxTokens = Annotated[int, typer.Option(help="Tokens of every continuation.", min=12)]
Judge = Annotated[
    Path | None, typer.Option(help="Model that scores the continuations (default: none does).", show_default=False)
]
Seed = Annotated[int, typer.Option(help="Seed of the prompts and of the drawing.", min=0)]


def quality(
    paths: Models,
    data: Data = None,
    split: Split = "validation",
    window: Window = None,
    lengths: Lengths = None,
    num_prompts: Prompts = 32,
    max_tokens: MaxTokens = 128,
    judge: Judge = None,
    seed: Seed = 0,
    output: Annotated[Path | None, output_option("quality_MODEL beside it")] = None,
    device: Device = None,
    trust_remote_code: RemoteCode = False,
    json_output: Json = False,
) -> None:
    """Let models continue real text, greedily and by nucleus sampling, and measure repetition, loops and diversity.

    Says first how long it takes. Writes quality.json for each model, and quality.html with samples side by side.

    Example: `tttkit quality runs/ttt/best_model runs/sw/best_model --judge runs/transformer/best_model`
    """
    from tttkit.evaluate.request import EvaluationRequest
    from tttkit.quality.settings import Settings

    settings = Settings(lengths=tuple(lengths or ()), num_prompts=num_prompts, max_tokens=max_tokens, seed=seed)
    names, targets = names_of(paths), targets_of(paths, output, "quality")
    requests = [
        EvaluationRequest(
            path=path, data=data, split=split, window=window, device=device, trust_remote_code=trust_remote_code
        )
        for path in paths
    ]
    _check(requests, judge)
    with stoppable():
        results = [_measure(*pair, settings, judge) for pair in zip(requests, targets, strict=True)]
        named = [(name, result.quality) for name, result in zip(names, results, strict=True)]
        compared = _compare(named, output or targets[0])
    if json_output:
        print_json(json_safe({"models": [result.to_dict() for _, result in named], "differences": compared}))
    else:
        _show(named, compared)


def _check(requests: list[EvaluationRequest], judge: Path | None) -> None:
    """Refuse what does not fit together, before the first model is measured."""
    from tttkit.evaluate.request import check_request
    from tttkit.quality.directory import judge_request

    for request in requests:
        check_request(request)
        if judge is not None:
            check_request(judge_request(request, judge, request.window or 1))


def _measure(request: EvaluationRequest, target: Path, settings: Settings, judge: Path | None) -> MeasuredModel:
    """Measure one model with a progress bar, and say what it costs and what was written."""
    from tttkit.quality.directory import measure_model_directory

    def announce(seconds: float, num_bytes: int) -> None:
        text = f"{request.path}: about {duration(seconds)} and {size(num_bytes)} of memory beyond the weights"
        err.print(escape(text), soft_wrap=True)

    with EvaluationProgress(request.path) as progress:
        result = measure_model_directory(
            request, target, settings, judge=judge, announce=announce, progress=progress.update
        )
    say_measured(request.path, result)
    return result


def _compare(named: list[tuple[str, Quality]], directory: Path) -> list[dict[str, Any]]:
    """Write the page with all models side by side, and return their differences."""
    from tttkit.quality.differences import differences
    from tttkit.report.page.quality_page import write_quality_page
    from tttkit.results.quality import PAGE_NAME

    compared = differences(named)
    say_written(write_quality_page(named, compared, directory / PAGE_NAME))
    return compared


def _show(named: list[tuple[str, Quality]], compared: list[dict[str, Any]]) -> None:
    for name, result in named:
        print_table(quality_table(name, result), num_keys=2)
        for part, reason in result.left_out.items():
            err.print(escape(f"{name}, {part}: {reason}"), soft_wrap=True)
    if compared:
        print_table(differences_table(compared), num_keys=len(KEYS))
