"""`tttkit eval`: run the full protocol on model directories, or on the evaluations that a run lacks."""

from __future__ import annotations

import typer

from tttkit_cli.eval_checkpoint import checkpoint
from tttkit_cli.eval_run import run
from tttkit_cli.tune_dynamic import tune_dynamic

eval_app = typer.Typer(no_args_is_help=False, help="Measure perplexity by position, in every context.")


@eval_app.callback()
def _eval() -> None:
    """Measure perplexity by position, in every context."""


eval_app.command("tune-dynamic")(tune_dynamic)
eval_app.command("checkpoint")(checkpoint)
eval_app.command("run")(run)
