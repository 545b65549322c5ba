from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

from tttkit import device
from tttkit.device import choose_num_threads, find_device, prepare_cpu, prepare_device
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
    """32 arrays of 64 MB take 2 GB of new pages if none is reused; a heap may still grow once or twice."""
    new_bytes = {}
    for prepared in (False, True):
        script = _FAULTS.format(prepared=prepared)
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        new_bytes[prepared] = int(result.stdout) * resource.getpagesize()
    if new_bytes[False] < 1 << 30:
        pytest.skip("this C library keeps its memory by itself, or its pages are huge")
    assert new_bytes[True] < new_bytes[False] / 4


@pytest.fixture(autouse=True)
def _same_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_denormals_and_threads():
    prepare_cpu(1)
    assert torch.get_num_threads() == 1
    assert (torch.tensor([1e-38]) * 1e-3).item() == 0.0
    prepare_cpu()
    assert torch.get_num_threads() == 1


def test_no_more_threads_than_cores_unless_the_environment_says_so(monkeypatch):
    monkeypatch.setattr(device, "available_cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    prepare_cpu()
    assert torch.get_num_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    prepare_cpu()
    assert torch.get_num_threads() == 2


def test_unknown_device():
    with pytest.raises(UsageError, match="unknown device `gpu`"):
        find_device("gpu")


@pytest.fixture
def two_gpus(monkeypatch):
    """Make torch report two GPUs; the list holds the numbers of the devices made current."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


def test_a_gpu_is_made_ready(two_gpus):
    """Kernels run on the current device, whatever the device of their tensors."""
    results = []
    for name, exact in (("cuda", False), ("cuda:1", True), ("cuda", False), ("cpu", True)):
        prepare_device(name, exact=exact)
        results.append((two_gpus[-1], torch.get_float32_matmul_precision()))
    assert results == [(0, "high"), (1, "highest"), (0, "high"), (0, "high")]
    assert two_gpus == [0, 1, 0]


def test_finding_a_device_changes_nothing(two_gpus):
    assert [find_device(name) for name in (None, "cuda:1", "cuda", "cpu")] == ["cuda", "cuda:1", "cuda", "cpu"]
    assert two_gpus == []
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_gpu_that_is_not_there(two_gpus, monkeypatch):
    with pytest.raises(UsageError, match="device `cuda:2` was asked for, but torch sees 2 GPUs") as error:
        find_device("cuda:2")
    assert error.value.hint == "cuda:0"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="but torch sees no GPU"):
        find_device("cuda:0")
    assert find_device(None) == "cpu"
    assert two_gpus == []


class Machine:
    """A clock, and steps whose seconds depend on torch's number of threads; a list gives successive steps."""

    def __init__(self, seconds: dict[int, float | list[float]]) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.calls: list[int] = []

    def clock(self) -> float:
        return self.now

    def step(self) -> None:
        count = torch.get_num_threads()
        self.calls.append(count)
        seconds = self.seconds[count]
        self.now += seconds[(self.calls.count(count) - 1) % len(seconds)] if isinstance(seconds, list) else seconds

    def choose(self):
        counts = sorted(self.seconds, reverse=True)
        return choose_num_threads(self.step, tokens_per_step=100, counts=counts, clock=self.clock)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({2: 0.1, 1: 0.2}, 2),
        ({2: 0.4, 1: 0.1}, 1),
        # within the noise the larger number is chosen, outside of it the faster one
        ({2: 0.102, 1: 0.1}, 2),
        ({2: 0.104, 1: 0.1}, 1),
        # the median counts, not the mean or the minimum; the first step only warms up
        ({2: [4.0, 0.1, 0.1, 0.1, 0.9], 1: 0.15}, 2),
        ({2: [0.3, 0.3, 0.05], 1: 0.15}, 1),
        ({8: 0.5, 4: 0.2, 2: 0.3, 1: 0.4}, 4),
    ],
)
def test_the_fastest_number_of_threads_is_chosen(seconds, chosen):
    machine = Machine(seconds)
    choice = machine.choose()
    assert (choice.num_threads, choice.why, torch.get_num_threads()) == (chosen, "measured", chosen)
    assert choice.tokens_per_second.keys() == seconds.keys()
    fixed = {count: value for count, value in seconds.items() if isinstance(value, float)}
    assert {count: choice.tokens_per_second[count] for count in fixed} == pytest.approx(
        {count: 100 / value for count, value in fixed.items()}
    )


def test_rounds_are_interleaved_and_bounded():
    machine = Machine({2: 0.1, 1: 0.2})
    machine.choose()
    assert machine.calls == [2, *[2, 1] * 5]
    machine = Machine({2: 0.001, 1: 0.001})
    machine.choose()
    assert len(machine.calls) <= 2 * device._MAX_ROUNDS + 1


def test_a_number_that_is_far_behind_is_measured_once():
    machine = Machine({4: 0.9, 2: 0.1, 1: 0.1})
    assert machine.choose().num_threads == 2
    assert machine.calls.count(4) == 2
    assert machine.calls.count(2) == machine.calls.count(1) > 2


@pytest.mark.parametrize(
    ("seconds", "chosen", "calls"),
    [
        ({2: 2.0, 1: 3.0}, 2, [2, 2, 1]),
        ({2: 6.0, 1: 11.0}, 2, [2, 1]),
        ({8: 6.0, 4: 11.0, 2: 22.0, 1: 44.0}, 8, [8, 4]),
    ],
)
def test_a_large_model_is_measured_with_few_steps(seconds, chosen, calls):
    machine = Machine(seconds)
    assert (machine.choose().num_threads, machine.calls) == (chosen, calls)


def test_fewer_threads_are_tried_despite_the_time_if_threads_wait_for_other_processes():
    """Beside much other work, a step with all threads takes minutes; that must not be a reason to keep all threads."""
    machine = Machine({2: 60.0, 1: 1.0})
    assert machine.choose().num_threads == 1
    assert machine.calls == [2, 1, 1]
    machine = Machine({8: 60.0, 4: 40.0, 2: 20.0, 1: 2.0})
    assert machine.choose().num_threads == 1
    assert machine.calls == [8, 4, 2, 1]


def test_small_numbers_of_threads_are_left_out_if_they_take_too_long():
    machine = Machine({64: 0.5, 32: 0.9, 16: 1.8, 8: 3.6, 4: 7.2, 2: 14.4, 1: 28.8})  # one would take half a minute
    assert machine.choose().num_threads == 64
    assert machine.calls == [64, 64, 32, 16, 8]


def test_one_core_needs_no_measurement():
    machine = Machine({1: 1.0})
    assert machine.choose().why == "one core available"
    assert machine.calls == []


@pytest.mark.parametrize(("value", "counts"), [("2,1", True), ("1", True), ("0", False), ("abc", False), ("", False)])
def test_only_a_number_that_openmp_accepts_counts_as_a_choice(monkeypatch, value, counts):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert (device.threads_of_environment() is not None) is counts
