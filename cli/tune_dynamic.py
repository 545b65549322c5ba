"""`tttkit eval tune-dynamic`: find the learning rate and the decay of the context `dynamic` for a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from tttkit.storage.files import json_safe
from tttkit_cli.console import err, out, print_json, print_table
from tttkit_cli.dynamic_options import flags_of, with_tuned_options
from tttkit_cli.model_options import Data, Device, Dtype, RemoteCode
from tttkit_cli.stopping import stoppable
from tttkit_cli.views.eval_progress import EvaluationProgress

if TYPE_CHECKING:
    from tttkit.evaluate.tune_dynamic import TunedDynamic


@with_tuned_options
def tune_dynamic(
    path: Annotated[Path, typer.Argument(help="Model directory, as for `eval checkpoint`.", metavar="MODEL")],
    data: Data = None,
    num_sequences: Annotated[int, typer.Option(help="Number of sequences of the training split.", min=1)] = 16,
    max_length: Annotated[
        int | None, typer.Option(help="Length T of a sequence (default: 20 x W).", min=2, show_default=False)
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Window W (default: as in `eval checkpoint`).", min=1, show_default=False),
    ] = None,
    device: Device = None,
    dtype: Dtype = "fp32",
    bos: Annotated[str, typer.Option(help="BOS token in front of a text: auto, always or never.")] = "auto",
    trust_remote_code: RemoteCode = False,
    fields: dict[str, Any] | None = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print settings and trials as JSON.")] = False,
) -> None:
    """Find the learning rate and the decay of `dynamic` on the training split, and print the options to pass.

    About ten settings are tried. The text of the evaluation is never read.

    Example: `tttkit eval tune-dynamic runs/quick/best_model --dynamic-optimizer rms`
    """
    from tttkit.evaluate.request import EvaluationRequest
    from tttkit.evaluate.tune_dynamic import tune_dynamic as tune

    request = EvaluationRequest(
        path=path, data=data, num_sequences=num_sequences, max_length=max_length, window=window, device=device,
        dtype=dtype, bos=bos, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    with stoppable(), EvaluationProgress(path) as progress:
        tuned = tune(request, fields or {}, progress=progress.update)
    flags = flags_of(tuned.config)
    if json_output:
        print_json(json_safe({**tuned.to_dict(), "options": flags}))
        return
    _show(tuned)
    if tuned.config.learning_rate == 0.0:
        err.print("[warning]no learning rate improves the training text: the weights should not learn[/]")
    out.print(escape(flags), soft_wrap=True)


def _show(tuned: TunedDynamic) -> None:
    title = f"mean NLL on {tuned.num_tokens:,} tokens of the training split, nats (rate 0 is `full`)"
    table = Table(title=title, title_justify="left")
    for head in ("rate", "decay", "NLL", "minus full"):
        table.add_column(head, justify="right")
    for trial in tuned.trials:
        values = ("diverged", "-") if trial.nll is None else (f"{trial.nll:.4f}", f"{trial.nll - tuned.full_nll:+.4f}")
        table.add_row(f"{trial.learning_rate:g}", f"{trial.decay:g}", *values)
    print_table(table)
