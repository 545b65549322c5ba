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


@pytest.fixture
def two_gpus(monkeypatch):
    """Torch believes in two GPUs; what it is asked to make current is noted."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


def test_a_gpu_is_made_ready(two_gpus):
    """Kernels run on the current device, whatever the tensors' own is."""
    found = []
    for name, exact in ((None, False), ("cuda:1", True), ("cuda", False), ("cpu", False)):
        resolved = resolve_device(name, exact=exact)
        found.append((resolved, two_gpus[-1], torch.get_float32_matmul_precision()))
    assert found == [("cuda", 0, "high"), ("cuda:1", 1, "highest"), ("cuda", 0, "high"), ("cpu", 0, "high")]
    assert two_gpus == [0, 1, 0]


def test_a_gpu_that_is_not_there(two_gpus, monkeypatch):
    with pytest.raises(UsageError, match="device `cuda:2` was asked for, but torch sees 2 GPUs") as error:
        resolve_device("cuda:2")
    assert error.value.hint == "cuda:0"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="but torch sees no GPU"):
        resolve_device("cuda:0")
    assert resolve_device(None) == "cpu"
    assert two_gpus == []
