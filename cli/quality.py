"""`tttkit quality`: let models continue real text, and measure what they write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from tttkit.storage.files import json_safe
from tttkit_cli.console import err, print_json, print_table
from tttkit_cli.eval_targets import names_of, targets_of
from tttkit_cli.model_options import Data, Device, Models, RemoteCode, Window
from tttkit_cli.stopping import stoppable
from tttkit_cli.views.eval_progress import EvaluationProgress
from tttkit_cli.views.quality import differences_table, quality_table
from tttkit_cli.views.units import duration, size

if TYPE_CHECKING:
    from tttkit.evaluate.request import EvaluationRequest
    from tttkit.quality.directory import MeasuredModel


def quality(
    paths: Models,
    data: Data = None,
    split: Annotated[str, typer.Option(help="Split to take prompts from.")] = "validation",
    window: Window = None,
    lengths: Annotated[
        list[int] | None,
        typer.Option(
            "--prompt-length",
            help="Tokens of a prompt; may be repeated (default: 1, 5 and 20 x W).",
            min=1,
            show_default=False,
        ),
    ] = None,
    num_prompts: Annotated[int, typer.Option(help="Number of prompts.", min=2)] = 32,
    max_tokens: Annotated[int, typer.Option(help="Tokens of every continuation.", min=12)] = 128,
    judge: Annotated[
        Path | None,
        typer.Option(help="Model that scores the continuations (default: none does).", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the prompts and of the drawing.", min=0)] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="Output directory (default: quality_MODEL beside it).", show_default=False),
    ] = None,
    device: Device = None,
    trust_remote_code: RemoteCode = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Let models continue real text, greedily and by nucleus sampling, and measure repetition, loops and diversity.

    Says first how long it takes. Writes quality.json for each model, and quality.html with samples side by side.

    Example: `tttkit quality runs/ttt/best_model runs/sw/best_model --judge runs/transformer/best_model`
    """
    from tttkit.evaluate.request import EvaluationRequest, check_request
    from tttkit.quality.differences import differences
    from tttkit.quality.directory import judge_request, measure_model_directory
    from tttkit.report.page.quality_page import write_quality_page
    from tttkit.results.quality import PAGE_NAME

    names, targets = names_of(paths), targets_of(paths, output, "quality")
    requests = [
        EvaluationRequest(
            path=path, data=data, split=split, window=window, device=device, trust_remote_code=trust_remote_code
        )
        for path in paths
    ]
    for request in requests:
        check_request(request)
        if judge is not None:
            check_request(judge_request(request, judge, window or 1))

    def measure(request: EvaluationRequest, target: Path) -> MeasuredModel:
        def announce(seconds: float, num_bytes: int) -> None:
            text = f"{request.path}: about {duration(seconds)} and {size(num_bytes)} of memory beyond the weights"
            err.print(escape(text), soft_wrap=True)

        with EvaluationProgress(request.path) as progress:
            return measure_model_directory(
                request, target, judge=judge, lengths=lengths, num_prompts=num_prompts, max_tokens=max_tokens,
                seed=seed, announce=announce, progress=progress.update,
            )  # fmt: skip

    with stoppable():
        results = []
        for request, target in zip(requests, targets, strict=True):
            results.append(measure(request, target))
            for file in results[-1].written:
                err.print(f"wrote [path]{escape(str(file))}[/]", soft_wrap=True)
            if not results[-1].written:
                err.print(escape(f"{request.path}: measured before, same weights, data and settings"), soft_wrap=True)
    named = [(name, result.quality) for name, result in zip(names, results, strict=True)]
    compared = differences(named)
    page = write_quality_page(named, compared, (output or targets[0]) / PAGE_NAME)
    err.print(f"wrote [path]{escape(str(page))}[/]", soft_wrap=True)
    if json_output:
        print_json(json_safe({"models": [result.to_dict() for _, result in named], "differences": compared}))
        return
    for name, result in named:
        print_table(quality_table(name, result), num_keys=2)
        for part, reason in result.left_out.items():
            err.print(escape(f"{name}, {part}: {reason}"), soft_wrap=True)
    if compared:
        print_table(differences_table(compared), num_keys=4)
