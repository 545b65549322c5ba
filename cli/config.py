"""`tttkit config`: the configuration that `tttkit train` would use, and where each value comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from tttkit_cli.console import out, print_json

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
        typer.Option("--set", help="Set any value: section.key=value. May be repeated.", show_default=False),
    ] = None,
    origin: Annotated[bool, typer.Option("--origin", help="Print where each value comes from.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Print the configuration that `tttkit train` would use, as TOML that `tttkit train` reads.

    Later layers override earlier ones: defaults, preset, CONFIG, TTTKIT_SET_SECTION__KEY variables, --set.

    Examples: `tttkit config show --origin` · `tttkit config show --preset curriculum-100k --set train.window=128`
    """
    from tttkit.config.layers import Choices, collect_layers, flatten, merge_layers, origins, to_toml
    from tttkit.config.resolve import Facts, resolve_config
    from tttkit.config.run import build_config

    layers = collect_layers(
        Choices(file=config, preset=preset, assignments=tuple(assignments or ()), environment=os.environ)
    )
    values = resolve_config(build_config(merge_layers(layers)), Facts()).to_dict()
    sources = origins(values, layers) if origin else None
    if sources and values["model"]["vocab_size"] is None:
        sources["model.vocab_size"] = "taken from the data"
    if not json_output:
        out.print(to_toml(values, sources), markup=False, end="", soft_wrap=True)
    elif sources:
        print_json({key: {"value": value, "origin": sources[key]} for key, value in flatten(values).items()})
    else:
        print_json(values)
