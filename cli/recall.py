"""`tttkit recall`: measure what models remember of a text that they have read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from tttkit.storage.files import json_safe
from tttkit_cli.console import err, print_json, print_table
from tttkit_cli.eval_targets import names_of, targets_of
from tttkit_cli.views.recall import recall_table


def recall(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Model directories, as for `eval checkpoint`; or hf:NAME\\[@REVISION].", metavar="MODEL…"),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="DATA directory (default: the data of the run that MODEL belongs to).", show_default=False),
    ] = None,
    split: Annotated[str, typer.Option(help="Split to take text from.")] = "validation",
    window: Annotated[
        int | None, typer.Option(help="Window W (default: the training window).", min=1, show_default=False)
    ] = None,
    distances: Annotated[
        list[int] | None,
        typer.Option(
            "--distance",
            help="Tokens between the two copies; may be repeated (default: 0, 1, 2, 5, 10 and 20 x W).",
            min=0,
            show_default=False,
        ),
    ] = None,
    num_examples: Annotated[int, typer.Option(help="Number of passages.", min=2)] = 64,
    seed: Annotated[int, typer.Option(help="Seed that chooses the passages.", min=0)] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--out", help="Output directory (default: recall_MODEL beside it).", show_default=False),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N (default: the GPU, if any).", show_default=False)
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Measure whether models know a passage that they have read before, by the tokens in between.

    Writes recall.json for each model, and one figure, recall.png.

    Example: `tttkit recall runs/ttt/best_model runs/sw/best_model --num-examples 128`
    """
    from tttkit.device import find_device, prepare_device
    from tttkit.evaluate.request import EvaluationRequest, check_request, prepare
    from tttkit.recall.second_copy import MULTIPLES, measure
    from tttkit.report.figures.recall import plot_recall
    from tttkit.results.recall import RECALL_NAME

    names = names_of(paths)
    requests = [EvaluationRequest(path=path, data=data, split=split, window=window, device=device) for path in paths]
    for request in requests:
        check_request(request)
    chosen = find_device(device)
    prepare_device(chosen)
    results = []
    targets = targets_of(paths, output, "recall")
    for name, request, target in zip(names, requests, targets, strict=True):
        job = prepare(dataclasses.replace(request, num_sequences=1))
        job.model.to(chosen)
        wanted = sorted(set(distances or [multiple * job.window for multiple in MULTIPLES]))
        result = measure(job, distances=wanted, num_examples=num_examples, seed=seed)
        result.write(target / RECALL_NAME)
        err.print(f"wrote {target / RECALL_NAME}", markup=False, soft_wrap=True)
        results.append((name, result))
    figure = plot_recall(results, (output or targets[0]) / "recall.png")
    err.print(f"wrote {figure}", markup=False, soft_wrap=True)
    if json_output:
        print_json(json_safe([result.to_dict() for _, result in results]))
    else:
        print_table(recall_table(results), num_keys=2)
