"""`tttkit eval checkpoint`: evaluate model directories in every context."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tttkit.config.dynamic import DynamicConfig
from tttkit.errors import UsageError
from tttkit_cli.dynamic_options import with_dynamic_options
from tttkit_cli.engine import Engine
from tttkit_cli.eval_targets import names_of, targets_of, with_text
from tttkit_cli.evaluated import Summaries, compute_blocks_of, evaluate_with_progress, show_evaluations
from tttkit_cli.measured import say_written
from tttkit_cli.model_options import Bos, Device, Dtype, RemoteCode, Split, Texts, output_option
from tttkit_cli.stopping import stoppable

if TYPE_CHECKING:
    from tttkit.evaluate.model_directory import EvaluatedModel
    from tttkit.evaluate.request import EvaluationRequest

Paths = Annotated[
    list[Path],
    typer.Argument(
        help="Model directories: of tttkit, official, or any Hugging Face causal model; or hf:NAME\\[@REVISION].",
        metavar="PATH…",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="DATA directory (default: the data of the run that PATH belongs to).", show_default=False),
]
Sequences = Annotated[
    int | None, typer.Option(help="Number of sequences (default: all of the split).", min=1, show_default=False)
]
MaxLength = Annotated[
    int | None, typer.Option(help="Length T of a sequence (default: 20 x W).", min=2, show_default=False)
]
Window = Annotated[
    int | None,
    typer.Option(
        help="Window W (default: the training window, else 64; needed for foreign models).", min=1, show_default=False
    ),
]
SwMode = Annotated[
    str,
    typer.Option(
        help="Compute the sliding window at all positions (`exact`) or only at labeled positions (`positions`)."
    ),
]


@with_dynamic_options
def checkpoint(
    paths: Paths,
    data: Data = None,
    texts: Texts = None,
    split: Split = "validation",
    num_sequences: Sequences = None,
    max_length: MaxLength = None,
    window: Window = None,
    sw_mode: SwMode = "exact",
    output: Annotated[Path | None, output_option("beside PATH")] = None,
    device: Device = None,
    dtype: Dtype = "fp32",
    bos: Bos = "auto",
    trust_remote_code: RemoteCode = False,
    dynamic: DynamicConfig | None = None,
    engine: Engine = "local",
    json_output: Summaries = False,
) -> None:
    """Evaluate models in every context, with intervals; write JSON files and a plot.

    Several models are also compared in one table and one plot, `models.png`, in --out or beside the first model.
    Models of other tools need `pip install 'tttkit\\[hf]'`, --window, and data made with their tokenizer, or --text.

    Examples: `tttkit eval checkpoint runs/quick/best_model` ·
    `tttkit eval checkpoint runs/ttt/best_model runs/sw/best_model runs/transformer/best_model --max-length 6400`
    """
    from tttkit.evaluate.request import EvaluationRequest

    if texts and (data is not None or split != "validation"):
        raise UsageError("--text takes the place of --data and --split", hint="name one of them")
    with stoppable():
        requests = [
            EvaluationRequest(
                path=path, data=data, split=split, num_sequences=num_sequences, max_length=max_length, window=window,
                sw_mode=sw_mode, device=device, dtype=dtype, bos=bos, trust_remote_code=trust_remote_code,
                dynamic=dynamic,
            )
            for path in paths
        ]  # fmt: skip
        named, targets = _evaluate(requests, output, texts or [], engine)
    if len(named) > 1:
        say_written(_plot_models(named, output or targets[0].parent))
    show_evaluations(named, json_output=json_output)


def _evaluate(
    requests: list[EvaluationRequest], output: Path | None, texts: list[Path], engine: str
) -> tuple[dict[str, EvaluatedModel], list[Path]]:
    """Evaluate all models; return their results by name, and their directories."""
    from tttkit.evaluate.request import check_request

    paths = [request.path for request in requests]
    names, targets = names_of(paths), targets_of(paths, output)
    if texts:
        requests = [with_text(*pair, texts) for pair in zip(requests, targets, strict=True)]
    for request in requests:
        check_request(request)
    pairs = list(zip(requests, targets, strict=True))
    compute_blocks_of(engine, pairs)
    return dict(zip(names, [evaluate_with_progress(*pair) for pair in pairs], strict=True)), targets


def _plot_models(named: dict[str, EvaluatedModel], directory: Path) -> Path:
    """Draw all models in one figure."""
    from tttkit.report.figures.models import MODELS_NAME, plot_models
    from tttkit.results.curves import CURVES_NAME, Curves

    curves = [(name, Curves.read(result.directory / CURVES_NAME)) for name, result in named.items()]
    return plot_models(curves, directory / f"{MODELS_NAME}.png")
