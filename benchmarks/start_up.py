"""Measure how long the command line takes to answer, compared with the interpreter alone and an import of torch.

`make bench` runs it. Every round times all commands once, in turn; the table gives medians and their ratio to the peer.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 7
PEER = "python -c 'import torch'"


def commands(run: Path) -> dict[str, list[str]]:
    """Return the timed commands by their names in the table."""
    python, tttkit = sys.executable, str(Path(sys.executable).with_name("tttkit"))
    return {
        "python -c pass": [python, "-c", "pass"],
        "python -c 'import tttkit'": [python, "-c", "import tttkit"],
        "tttkit --help": [tttkit, "--help"],
        "tttkit status RUN": [tttkit, "status", str(run)],
        PEER: [python, "-c", "import torch"],
    }


def measure() -> dict[str, float]:
    """Return the median seconds of every command."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "metadata.json").write_text("{}")
        for _ in range(ROUNDS):
            for name, command in commands(Path(folder)).items():
                started = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds.setdefault(name, []).append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    """Print the table, or JSON with --json."""
    medians = measure()
    if "--json" in sys.argv[1:]:
        print(json.dumps(medians, indent=2))
        return
    for name, median in medians.items():
        print(f"{name:<28} {median:6.3f} s   {median / medians[PEER]:5.2f} x {PEER}")


if __name__ == "__main__":
    main()
