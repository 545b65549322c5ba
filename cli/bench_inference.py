"""`tttkit bench inference`: time prefill and decoding of models by context length."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tttkit.errors import UsageError
from tttkit.run.threads import describe_threads
from tttkit.storage.files import json_safe, make_directory, write_json
from tttkit_cli.console import err, print_json, print_table
from tttkit_cli.eval_targets import names_of
from tttkit_cli.measured import say_written
from tttkit_cli.model_options import Device, Dtype, Json, RemoteCode
from tttkit_cli.views.units import size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tttkit.infer.benchmark import InferenceSpeed
    from tttkit.models.scoring import LoadedModel

_RESULTS, _FIGURE = "inference.json", "inference.png"
_CONTEXTS = (256, 1024, 4096)


Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Model directories: of tttkit, official, or any Hugging Face causal model; or hf:NAME\\[@REVISION] "
        "(default: a new ttt-125m).",
        metavar="MODEL…",
        show_default=False,
    ),
]
Contexts = Annotated[
    list[int] | None,
    typer.Option(
        "--context",
        help="Number of tokens that the model reads first; may be repeated.",
        min=1,
        show_default="256, 1024, 4096",
    ),
]
BatchSizes = Annotated[
    list[int] | None,
    typer.Option("--batch-size", help="Texts decoded together; may be repeated.", min=1, show_default="1"),
]
Peers = Annotated[
    bool,
    typer.Option(
        help="Compare with a Transformer of the first model's size, and with GPT-2 and Mamba-2 if transformers is "
        "installed."
    ),
]
Tokens = Annotated[int, typer.Option("--tokens", help="Number of tokens to time.", min=1)]
Rounds = Annotated[int, typer.Option(help="Number of measurements; their medians are shown.", min=1, max=10_000)]
Threads = Annotated[
    int | None,
    typer.Option(
        help="CPU threads (default: OMP_NUM_THREADS, else the fastest number measured).", min=1, show_default=False
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Directory to write inference.json and the figure inference.png to.", show_default=False
    ),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Sizes:
    """What is timed."""

    contexts: list[int]
    batch_sizes: list[int]
    num_tokens: int
    rounds: int


def inference(
    paths: Paths = None,
    contexts: Contexts = None,
    batch_sizes: BatchSizes = None,
    peers: Peers = True,
    num_tokens: Tokens = 32,
    rounds: Rounds = 5,
    threads: Threads = None,
    device: Device = None,
    dtype: Dtype = "fp32",
    trust_remote_code: RemoteCode = False,
    output: Output = None,
    json_output: Json = False,
) -> None:
    """Time reading and decoding after several context lengths, compared with other models of the same size.

    Example: `tttkit bench inference runs/quick/best_model llama/ --context 64 --context 4096 --batch-size 8`
    """
    from tttkit.device import find_device, prepare_cpu, prepare_device

    if output is not None:
        make_directory(output)
    prepare_cpu(threads)
    device_name = find_device(device)
    prepare_device(device_name)
    sizes = _Sizes(
        contexts=sorted(set(contexts or _CONTEXTS)), batch_sizes=sorted(set(batch_sizes or [1])),
        num_tokens=num_tokens, rounds=rounds,
    )  # fmt: skip
    models = _models(paths or [], dtype, trust_remote_code=trust_remote_code)
    if peers:
        models |= _peers(next(iter(models.values())), set(models), sizes.contexts[-1] + num_tokens)
    for model in models.values():
        model.to(device_name)
    rows = _measure(models, sizes, device_name, choose_threads=threads is None)
    if output is not None:
        _write(rows, output)
    if json_output:
        print_json(json_safe([row.to_dict() for row in rows]))
    else:
        print_table(inference_table(rows))


def _measure(
    models: Mapping[str, LoadedModel], sizes: _Sizes, device: str, *, choose_threads: bool
) -> list[InferenceSpeed]:
    """Say what is left out, choose the threads unless they are given, and time the rest. Raises UsageError."""
    import torch

    from tttkit.evaluate.memory import available_bytes
    from tttkit.infer.benchmark import choose_threads_for_decoding, measure_inference

    free_bytes = available_bytes(torch.device(device))
    _say_what_is_left_out(models, sizes)
    _say_what_does_not_fit(models, sizes, free_bytes)
    choice = choose_threads_for_decoding(next(iter(models.values()))) if choose_threads else None
    if choice is not None:
        err.print(describe_threads(choice.to_dict()), soft_wrap=True)
    measuring = measure_inference(
        models, sizes.contexts, batch_sizes=sizes.batch_sizes, num_tokens=sizes.num_tokens, rounds=sizes.rounds,
        free_bytes=free_bytes,
    )  # fmt: skip
    rows = list(measuring)
    if not rows:
        raise UsageError(
            "no model fits in the free memory", hint="choose a shorter --context, or a smaller --batch-size"
        )
    return rows


def _models(paths: list[Path], dtype: str, *, trust_remote_code: bool) -> dict[str, LoadedModel]:
    """Load the models by name; without paths, build the reference model with its initial weights."""
    from tttkit.infer.loading import generator_directory
    from tttkit.models import ModelConfig, build_model, load_scoring_model

    if not paths:
        model = build_model(ModelConfig.preset("ttt-125m"), seed=0).eval()
        return {model.name: model}
    models = [load_scoring_model(generator_directory(path), dtype, trust_remote_code) for path in paths]
    return dict(zip(names_of(paths) if len(paths) > 1 else [models[0].name], models, strict=True))


def _peers(model: LoadedModel, taken: set[str], num_positions: int) -> dict[str, LoadedModel]:
    """Return untrained models of the size of one of ours that are not there already, by name."""
    from tttkit.models import LanguageModel, build_model
    from tttkit.models.hugging_face.same_size import models_of_same_size

    if not isinstance(model, LanguageModel):
        err.print("peers of the same size are built for models of tttkit only, so only the given models are measured")
        return {}
    config = model.config.as_transformer()
    peers: dict[str, LoadedModel] = {config.name: build_model(config, seed=0).eval()}
    num_parameters = sum(each.numel() for each in model.parameters())
    try:
        peers |= models_of_same_size(config, num_parameters, num_positions)
    except UsageError as error:
        err.print(f"GPT-2 and Mamba-2 are left out: {error}", markup=False, soft_wrap=True)
    return {name: peer for name, peer in peers.items() if name not in taken}


def _say_what_is_left_out(models: Mapping[str, LoadedModel], sizes: _Sizes) -> None:
    from tttkit.infer.benchmark import can_read

    shortest = sizes.contexts[0] + sizes.num_tokens
    if not any(can_read(model, shortest) for model in models.values()):
        raise UsageError(
            f"no model reads {shortest:,} tokens: a context and the tokens after it",
            hint="choose a shorter --context",
        )
    for name, model in models.items():
        beyond = [f"{context:,}" for context in sizes.contexts if not can_read(model, context + sizes.num_tokens)]
        if beyond:
            text = f"{name} reads at most {model.max_positions:,} tokens, so it is left out at {', '.join(beyond)}"
            err.print(text, markup=False, soft_wrap=True)


def _say_what_does_not_fit(models: Mapping[str, LoadedModel], sizes: _Sizes, free_bytes: int) -> None:
    from tttkit.infer.benchmark import beyond_memory, can_read

    for batch_size, context in itertools.product(sizes.batch_sizes, sizes.contexts):
        length = context + sizes.num_tokens
        able = {name: model for name, model in models.items() if can_read(model, length)}
        for name, needed in beyond_memory(able, batch_size, length, free_bytes).items():
            text = (
                f"{name} is left out at {batch_size} x {context:,} tokens: its states need about {size(needed)}, "
                f"and {size(free_bytes)} are free for all models together"
            )
            err.print(text, markup=False, soft_wrap=True)


def _write(rows: list[InferenceSpeed], directory: Path) -> None:
    from tttkit.report.figures.inference import plot_inference

    values = [row.to_dict() for row in rows]
    write_json(directory / _RESULTS, json_safe({"schema_version": 1, "rows": values}))
    figure = plot_inference(values, directory / _FIGURE)
    for path in (directory / _RESULTS, figure):
        say_written(path)


def inference_table(rows: list[InferenceSpeed]) -> Table:
    """Build a table with a row per model, batch size and context."""
    table = Table(title="decoding after a context: all rows together, medians", title_justify="left")
    columns = (
        "model", "parameters", "rows", "context", "first token s", "prefill tokens/s", "tokens/s", "CPU ms per step",
        "state MB",
    )  # fmt: skip
    for name in columns:
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.num_parameters:,}",
            str(row.batch_size),
            f"{row.context:,}",
            f"{row.first_token_seconds:,.3g}",
            f"{row.prefill_tokens_per_second:,.0f}",
            f"{row.tokens_per_second:,.1f}",
            f"{1e3 * row.cpu_seconds_per_token:,.3g}",
            f"{row.state_bytes / 1e6:,.2f}",
        )
    return table
