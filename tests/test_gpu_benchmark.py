"""The GPU benchmarks, as far as a CPU can run them, so that they work when a GPU is available."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.timeout(900)  # minutes on a slow machine with other tests beside
def test_everything_is_measured():
    """On the CPU, float32 is the reference itself, and a run that was killed and resumed ends with the same bits."""
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "cpu"], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    exact = re.findall(r"parity ttt-(\w+) float32 +logits 0.0e\+00 at most, gradients 0.0e\+00", result.stdout)
    rounded = re.findall(r"parity ttt-(\w+) bf16 +logits (\S+) at most, gradients (\S+)", result.stdout)
    assert exact == [kind for kind, *_ in rounded] == ["linear", "mlp"]
    assert all(0 < float(figure) < 0.1 for _, *figures in rounded for figure in figures)
    assert result.stdout.count("steps/s, MFU") == 2
    assert re.findall(r"evaluation of 2 sequences of 3 x W, (\w+)", result.stdout) == [
        "sw",
        "sw_aligned",
        "reset",
        "full",
    ]
    assert result.stdout.count("the same bits after 30 steps") == 2


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")
def test_kernels_compile_for_a_hopper_gpu():
    """Compile in a separate process, because Triton may be in interpreter mode here. Users would see a warning."""
    script = SCRIPT.with_name("inner_loop.py")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TRITON_")}
    result = subprocess.run(
        [sys.executable, "-W", "error", str(script), "16", "16"], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == ["forward_kernel", "backward_kernel"] * 3
    assert max(float(row[-1]) for row in rows) < 227, "KB of shared memory"
