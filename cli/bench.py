"""`tttkit bench`: measure speed on this machine, compared with the installed peers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tttkit.errors import UsageError
from tttkit.run.threads import describe_threads
from tttkit_cli.bench_data import data
from tttkit_cli.bench_inference import inference
from tttkit_cli.console import err, out, print_json, print_table

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.train.benchmark import TrainSpeed

Threads = Annotated[
    int | None,
    typer.Option(
        help="CPU threads (default: OMP_NUM_THREADS, else the fastest number measured).", min=1, show_default=False
    ),
]

bench_app = typer.Typer(no_args_is_help=False, help="Measure speed on this machine, compared with the installed peers.")
bench_app.command()(data)
bench_app.command()(inference)


@bench_app.command()
def train(
    preset: Annotated[str, typer.Option(help="Preset whose model is measured.")] = "curriculum-100k",
    model: Annotated[
        str | None,
        typer.Option(help="ttt-linear, ttt-mlp, sw, transformer, gated-deltanet, … (default: the preset's)."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Windows that go through the model at once.", min=1)] = 8,
    window: Annotated[int, typer.Option(help="Window W in tokens.", min=1)] = 64,
    rounds: Annotated[
        int, typer.Option(help="Number of measurements; their medians are shown.", min=1, max=10_000)
    ] = 5,
    official: Annotated[
        Path | None, typer.Option(help="Checkout of the official PyTorch code, to measure it too.", show_default=False)
    ] = None,
    compile_blocks: Annotated[bool, typer.Option("--compile/--no-compile", help="Compile our blocks.")] = True,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    threads: Threads = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N (default: the GPU, if there is one).", show_default=False)
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Time forward and backward, compared with a Transformer of the same size, and the parts of a whole step.

    Example: `tttkit bench train --official ../ttt-lm-pytorch`
    """
    if precision not in ("fp32", "bf16"):
        raise UsageError(f"unknown precision `{precision}`", hint="fp32 or bf16")
    config = _model_config(preset, model)
    import torch

    from tttkit.device import find_device, prepare_cpu, prepare_device, threads_of_environment
    from tttkit.train.benchmark import measure_training

    prepare_cpu(threads)
    device_name = find_device(device)
    prepare_device(device_name, exact=precision == "fp32")
    speed = measure_training(
        config,
        window=window,
        batch_size=batch_size,
        rounds=rounds,
        device=torch.device(device_name),
        precision=precision,
        compile_blocks=compile_blocks,
        official=official,
        choose_threads=threads is None and threads_of_environment() is None,
    )
    if json_output:
        print_json({**dataclasses.asdict(speed), "mfu": speed.mfu})
    else:
        _print_training(speed, f"{batch_size} x {window} tokens, {precision}")


def _model_config(preset: str, model: str | None) -> ModelConfig:
    from tttkit.config.layers import merge
    from tttkit.config.model import ModelConfig, name_to_fields
    from tttkit.config.presets import preset_values

    fields = preset_values(preset)["model"]
    return ModelConfig(**merge(fields, name_to_fields(model) if model else {}))


def _print_training(speed: TrainSpeed, what: str) -> None:
    table = Table(title=f"forward and backward of {what}, medians", title_justify="left")
    for name in ("model", "parameters", "s", "tokens/s", "time / first", "loss"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in speed.contestants:
        tokens_per_second = speed.tokens_per_step / row.seconds
        figures = (
            f"{row.num_parameters:,}",
            f"{row.seconds:.4g}",
            f"{tokens_per_second:,.0f}",
            f"{row.ratio:.3f}",
            f"{row.loss:.6f}",
        )
        table.add_row(row.name, *figures)
        err.print(f"{row.name}: {row.how}", soft_wrap=True)
    print_table(table)
    if speed.threads is not None:
        err.print(describe_threads(speed.threads), soft_wrap=True)
    shares = ", ".join(f"{name} {seconds / sum(speed.parts.values()):.0%}" for name, seconds in speed.parts.items())
    out.print(
        f"whole step of {speed.contestants[0].name}: {1 / speed.step_seconds:.3g} steps/s, "
        f"{speed.tokens_per_step / speed.step_seconds:,.0f} tokens/s ({shares})"
    )
    out.print(
        f"MFU {speed.mfu:.0%} of {speed.peak_flop_per_second / 1e12:.3g} TFLOP/s (a square product on {speed.device}, "
        f"{speed.num_threads} threads), peak memory of the process {speed.peak_memory_bytes / 1e9:.2f} GB"
    )
