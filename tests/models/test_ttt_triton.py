"""The kernels without a GPU: the tests of the operator, run by Triton's interpreter in a process of its own.

Triton decides when it is imported whether it interprets, for the whole process.
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
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "addopts=", "-x", str(tests)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "1 skipped" in found.stdout, found.stdout  # tf32
