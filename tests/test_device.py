from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

from tttkit.device import prepare_cpu, resolve_device
from tttkit.errors import UsageError

_FAULTS = """
import resource, torch
from tttkit.device import prepare_cpu
if {prepared}:
    prepare_cpu(1)
for _ in range(3):
    torch.zeros(1 << 24) + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(16):
    torch.zeros(1 << 24) + 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_large_arrays_are_reused():
    """64 MB 32 times over are 2 GB of pages when asked of the system anew; a heap may still grow once or twice."""
    found = {}
    for prepared in (False, True):
        script = _FAULTS.format(prepared=prepared)
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        found[prepared] = int(result.stdout) * resource.getpagesize()
    if found[False] < 1 << 30:
        pytest.skip("this C library keeps its memory by itself, or its pages are huge")
    assert found[True] < found[False] / 4


def test_denormals_and_threads():
    before = torch.get_num_threads()
    try:
        prepare_cpu(1)
        assert torch.get_num_threads() == 1
        assert (torch.tensor([1e-38]) * 1e-3).item() == 0.0
        prepare_cpu()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_unknown_device():
    with pytest.raises(UsageError, match="unknown device `gpu`"):
        resolve_device("gpu")
