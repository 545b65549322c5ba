"""`tttkit config`: the configuration that a command would use, and where each value comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tttkit_cli.console import out, print_json
from tttkit_cli.layers import Request, collect_layers, merge_layers, resolved_values

config_app = typer.Typer(help="Show the resolved configuration.", no_args_is_help=False)


@config_app.callback()
def _group() -> None:
    """Show the resolved configuration and where its values come from."""


@config_app.command("show")
def show(
    config: Annotated[Path | None, typer.Argument(help="TOML file, as for `tttkit train`.", show_default=False)] = None,
    preset: Annotated[str | None, typer.Option(help="Named experiment (default: quick).", show_default=False)] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any value: section.key=value. May be repeated.", show_default=False),
    ] = None,
    origin: Annotated[bool, typer.Option("--origin", help="Say where each value comes from.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Print the configuration that `tttkit train` would use: TOML, ready to be used as CONFIG.toml.

    Layers, each winning over the one before: defaults, preset, CONFIG, TTTKIT_SET_SECTION__KEY variables, --set.

    Examples: `tttkit config show --origin` · `tttkit config show --preset curriculum-100k --set train.window=128`
    """
    from tttkit.config.layers import flatten, origins, to_toml

    layers = collect_layers(Request(config=config, preset=preset, assignments=tuple(assignments or ())), os.environ)
    resolved = resolved_values(merge_layers(layers))
    sources = origins(resolved, layers) if origin else None
    if sources and resolved["model"]["vocab_size"] is None:
        sources["model.vocab_size"] = "taken from the data"
    if json_output:
        values = flatten(resolved)
        print_json({key: {"value": values[key], "origin": sources[key]} for key in values} if sources else resolved)
    else:
        out.print(to_toml(resolved, sources), markup=False, end="", soft_wrap=True)
