"""The measurements that wait for a GPU, at the tiny sizes of a CPU: they must not fail when one is there at last."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def test_everything_is_measured():
    """On the CPU float32 is the reference itself, and a run that died ends with the same bits."""
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "cpu"], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    exact = re.findall(r"parity ttt-(\w+) float32 +logits 0.0e\+00 at most, gradients 0.0e\+00", found.stdout)
    rounded = re.findall(r"parity ttt-(\w+) bf16 +logits (\S+) at most, gradients (\S+)", found.stdout)
    assert exact == [kind for kind, *_ in rounded] == ["linear", "mlp"]
    assert all(0 < float(figure) < 0.1 for _, *figures in rounded for figure in figures)
    assert found.stdout.count("steps/s, MFU") == 2
    assert re.findall(r"evaluation of 2 sequences of 3 x W, (\w+)", found.stdout) == [
        "sw",
        "sw_aligned",
        "reset",
        "full",
    ]
    assert found.stdout.count("the same bits after 30 steps") == 2
