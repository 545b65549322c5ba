"""Run the tests of the operator without a GPU, through Triton's interpreter in a separate process.

Triton decides at import whether it interprets, for the whole process.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.mark.skipif(torch.cuda.is_available(), reason="test_ttt_linear_op.py runs the kernels on the GPU itself")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")
def test_kernels_through_the_interpreter():
    tests = Path(__file__).with_name("test_ttt_linear_op.py")
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "addopts=", "-x", str(tests)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert "1 skipped" in process.stdout, process.stdout  # tf32
