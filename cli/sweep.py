"""`tttkit sweep`: runs a study over settings and seeds, and shows its table."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tttkit.errors import PreemptedError, TttkitError
from tttkit.run.directory import quoted
from tttkit_cli.console import err, out, print_json
from tttkit_cli.engine import Engine

if TYPE_CHECKING:
    from tttkit.sweep.driver import Driver
    from tttkit.sweep.processes import Start
    from tttkit.sweep.results import Row
    from tttkit.sweep.study import Study
    from tttkit.sweep.trials import Trial


def sweep(
    study: Annotated[Path, typer.Argument(help="TOML file of the study.", metavar="STUDY.toml")],
    output: Annotated[
        Path | None,
        typer.Option("--out", help="Directory of the study (default: studies/STUDY).", show_default=False),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Runs at the same time (default: 1; with --engine ray as many as the cluster has room for).",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="CPU threads of each run (default: the cores, shared out; with --engine ray OMP_NUM_THREADS, else 1).",
            show_default=False,
        ),
    ] = None,
    engine: Engine = "local",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check every setting, show the table and train nothing.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Train every setting of a study with every seed, and compare them.

    Each trial is an ordinary `tttkit train` in its own run directory. The same command goes on after any
    interruption, and several of them may work on one study.

    Examples: `tttkit sweep rates.toml --dry-run` · `tttkit sweep rates.toml --workers 2` ·
    `tttkit sweep rates.toml --engine ray`
    """
    from tttkit.cluster.tasks import check_engine
    from tttkit.sweep.driver import Driver, prepare_directory
    from tttkit.sweep.results import read_rows
    from tttkit.sweep.search import search_of
    from tttkit.sweep.study import read_study
    from tttkit.sweep.trials import trials_of

    check_engine(engine)
    chosen = read_study(study)
    directory = (output or Path("studies") / study.stem).resolve()
    search = search_of(chosen, directory)
    for setting in search.settings():
        trials_of(chosen, directory, setting)[0].config()
    failed: list[Trial] = []
    if not dry_run:
        prepare_directory(directory, dataclasses.asdict(chosen))
        with _places(engine, workers, threads) as (start, num_workers):
            driver = Driver(chosen, directory, search, start=start, workers=num_workers, report=_say)
            _train(driver, study)
        failed = driver.failed
    _show(chosen, read_rows(chosen, directory, search), json_output=json_output)
    if failed:
        names = ", ".join(trial.name for trial in failed)
        raise TttkitError(f"runs that failed: {names}", hint=f"see {quoted(failed[0].log)}")


@contextmanager
def _places(engine: str, workers: int | None, threads: int | None) -> Iterator[tuple[Start, int]]:
    """Give the function that starts a run, on this machine or on a cluster, and the number of runs at a time."""
    if engine == "ray":
        from tttkit.cluster.tasks import connected
        from tttkit.cluster.trials import TrialOnCluster

        with connected(threads) as cluster:
            yield functools.partial(TrialOnCluster, cluster), workers or cluster.num_slots(on_gpu=cluster.has_gpus)
        return
    from tttkit.run.cores import available_cores
    from tttkit.sweep.processes import start_here

    workers = workers or 1
    yield functools.partial(start_here, threads=threads or max(available_cores() // workers, 1)), workers


def _train(driver: Driver, file: Path) -> None:
    """Train until all runs have ended. Raises PreemptedError when a signal asks to stop."""
    from tttkit.run.signals import GRACE_SECONDS, StopRequestedError, StopSignals
    from tttkit.sweep.driver import STOP_SECONDS

    with StopSignals(grace_seconds=STOP_SECONDS + GRACE_SECONDS) as signals:
        try:
            driver.run(signals.poll)
        except StopRequestedError as stop:
            hint = f"run `tttkit sweep {quoted(file)}` again: every run goes on"
            raise PreemptedError(f"stopped by {stop}; all runs have saved their state", hint=hint) from None


def _show(study: Study, rows: list[Row], *, json_output: bool) -> None:
    """Print the settings, the effects of values and the trends of ranges."""
    from tttkit.sweep.results import effects, trends
    from tttkit_cli.views.sweep import print_effects, print_rows, print_trends

    found, ranges = effects(study, rows), trends(study, rows)
    if json_output:
        parts: dict[str, list[Any]] = {"settings": rows, "effects": found, "trends": ranges}
        print_json({name: [dataclasses.asdict(item) for item in items] for name, items in parts.items()})
        return
    print_rows(study, rows)
    print_effects(found)
    print_trends(ranges)


def _say(event: str, trial: Trial) -> None:
    """Tell what happened to a trial, as one line on stderr."""
    from tttkit.run.pruned_file import read_pruned

    values = ", ".join(f"{key} = {value}" for key, value in trial.setting.values.items())
    text = f"{event} {trial.name}: {values}" if values else f"{event} {trial.name}"
    if event == "ended" and (objective := trial.objective) is not None:
        text += f": {trial.study.objective} {objective:,.2f}"
    if event == "pruned" and (pruned := read_pruned(trial.run)) is not None:
        text += f": {pruned.reason}"
    err.print(text, markup=False, soft_wrap=True)
    out.file.flush()
