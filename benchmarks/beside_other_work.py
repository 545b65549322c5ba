"""Training speed of the `quick` model on an idle machine and beside other processes, by number of threads.

Run nothing else meanwhile: `python benchmarks/beside_other_work.py`. Each figure comes from its own process, which
trains for `--seconds` and reports the tokens per second of its steps. `chosen` measures first, as `tttkit train` does
if no number of threads is given. Passive threads sleep instead of spinning while they wait for each other. Each of the
`--rounds` rounds runs all cases in turn, and the table shows medians. The goals: beside one busy process, `chosen`
keeps 0.6 of the best idle speed; on an idle machine, it loses nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CHOSEN = "chosen"
SITUATIONS = {"idle": (0, 0), "beside one busy process": (1, 0), "beside two niced ones": (2, 19)}
"""Number of other processes and their niceness, by situation."""
_GOAL = 0.6
_MOST_STEPS = 100_000
_START_SECONDS = 60.0
"""Seconds for loading torch, added to the time after which busy processes end by themselves."""
Speeds = dict[tuple[str, str], float]
_BUSY = "import sys, time\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: pass"


def cases(cores: int) -> dict[str, tuple[int | None, bool]]:
    """Return the number of threads (None: chosen by measurement) and whether they wait passively, by name."""
    several = {} if cores == 1 else {f"{cores} threads": (cores, False), f"{cores} threads, passive": (cores, True)}
    return {"1 thread": (1, False), **several, CHOSEN: (None, False)}


@contextlib.contextmanager
def busy_processes(count: int, niceness: int, seconds: float) -> Iterator[None]:
    """Keep the cores busy with processes that end with the block, or by themselves after `seconds`."""
    command = ["nice", "-n", str(niceness), sys.executable, "-c", _BUSY, str(seconds)]
    processes = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(data: Path, num_threads: int | None, *, passive: bool, seconds: float) -> tuple[float, int]:
    """Return tokens per second (0 if it took too long) and the number of threads of one training process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    if passive:
        environment["OMP_WAIT_POLICY"] = "passive"
    command = [sys.executable, __file__, "--train", str(data), str(num_threads or 0), "--seconds", str(seconds)]
    limit = _START_SECONDS + 10 * seconds
    try:
        result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return 0.0, num_threads or 0
    figures = json.loads(result.stdout)
    return figures["tokens_per_second"], figures["num_threads"]


def train(data: Path, num_threads: int | None, seconds: float) -> None:
    """Train the quick model on `data` for `seconds` and print the figures as JSON."""
    from tttkit.config.presets import preset_values
    from tttkit.config.run import build_config
    from tttkit.errors import PreemptedError
    from tttkit.run.signals import StopRequestedError, StopSignals
    from tttkit.train.events import Event, Plan, StepLogged
    from tttkit.train.start import train as start

    values = preset_values("quick")
    values["data"] = {"path": str(data)}
    values["train"] |= {"device": "cpu", "num_threads": num_threads, "max_steps": _MOST_STEPS, "log_every": 1}
    # `quick` itself is too short to be compiled
    values["train"] |= {"save_every": _MOST_STEPS, "compile": False}
    values["evaluation"] = {"num_checkpoints": 0}
    moments: list[float] = []
    plans: list[Plan] = []

    def report(event: Event) -> None:
        if isinstance(event, Plan):
            plans.append(event)
        elif isinstance(event, StepLogged):
            moments.append(time.perf_counter())
            if moments[-1] - moments[0] > seconds and len(moments) > 2:
                raise StopRequestedError("the benchmark")

    with tempfile.TemporaryDirectory() as folder, StopSignals() as signals, contextlib.suppress(PreemptedError):
        start(build_config(values), Path(folder) / "run", report=report, signals=signals)
    # the first step allocates
    speed = (len(moments) - 2) * plans[0].tokens_per_step / (moments[-1] - moments[1])
    print(json.dumps({"tokens_per_second": speed, "num_threads": plans[0].num_threads}))


def measure_all(data: Path, *, rounds: int, seconds: float) -> tuple[Speeds, dict[str, list[int]]]:
    """Return median tokens per second by case and situation, and the chosen numbers of threads by situation."""
    speeds: dict[tuple[str, str], list[float]] = {}
    chosen: dict[str, list[int]] = {situation: [] for situation in SITUATIONS}
    for _ in range(rounds):
        for situation, (count, niceness) in SITUATIONS.items():
            for case, (num_threads, passive) in cases(len(os.sched_getaffinity(0))).items():
                with busy_processes(count, niceness, _START_SECONDS + 10 * seconds):
                    speed, used = measure(data, num_threads, passive=passive, seconds=seconds)
                speeds.setdefault((case, situation), []).append(speed)
                if case == CHOSEN:
                    chosen[situation].append(used)
    return {key: statistics.median(values) for key, values in speeds.items()}, chosen


def print_table(speeds: Speeds, chosen: dict[str, list[int]]) -> None:
    """Print tokens per second and their ratio to the best idle speed with a fixed number of threads."""
    best = max(speed for (case, situation), speed in speeds.items() if situation == "idle" and case != CHOSEN)
    print(f"quick model, tokens/s (ratio to the best idle speed, {best:,.0f})")
    rows = {"": list(SITUATIONS)}
    for case in dict.fromkeys(case for case, _ in speeds):
        row = [speeds[case, situation] for situation in SITUATIONS]
        rows[case] = [f"{speed:,.0f} ({speed / best:.2f})" for speed in row]
    rows["threads chosen"] = [", ".join(map(str, chosen[situation])) for situation in SITUATIONS]
    for name, cells in rows.items():
        print(f"{name:<24}" + "".join(f"{cell:>26}" for cell in cells))
    ratio = speeds[CHOSEN, "beside one busy process"] / best
    print(f"beside one busy process chosen keeps {ratio:.2f} of the idle speed (goal: {_GOAL})")


def main() -> None:
    """Measure and print the table; with --train, run as one of the measured processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of training in each process")
    parser.add_argument("--train", nargs=2, metavar=("DATA", "THREADS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(Path(arguments.train[0]), int(arguments.train[1]) or None, arguments.seconds)
        return
    from tttkit.config.presets import preset_values
    from tttkit.data import prepare_dataset

    source = preset_values("quick")["data"]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        prepare_dataset([source["source"]], data, tokenizer=source["tokenizer"], validation_fraction=0.05)
        print_table(*measure_all(data, rounds=arguments.rounds, seconds=arguments.seconds))


if __name__ == "__main__":
    main()
