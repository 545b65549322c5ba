"""The number of CPU threads of a run: the order of its sources, a measurement without side effects, and the watch."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch.nn import functional

from tests.models.small import small_model
from tests.training import train
from tttkit import device
from tttkit.config.run import build_config
from tttkit.errors import PreemptedError
from tttkit.health.status import read_status
from tttkit.run.cores import CoreReading
from tttkit.run.directory import RunDirectory
from tttkit.run.signals import StopRequestedError
from tttkit.run.threads import ThreadChoice
from tttkit.train import start, threads
from tttkit.train.threads import ThreadWatch, choose_for_run

MEASURED = ThreadChoice(num_threads=1, why="measured", tokens_per_second={1: 40.0, 2: 30.0})


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """Two cores are available, OMP_NUM_THREADS is not set, and torch's number of threads is restored afterwards."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for module in (device, threads):
        monkeypatch.setattr(module, "available_cores", lambda: 2)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1})
    yield
    torch.set_num_threads(before)


@pytest.fixture
def two_are_faster(monkeypatch):
    """Two threads win every measurement of real steps; the list holds the number of threads of each step."""
    steps = []

    def seconds(step, _clock):
        step()
        steps.append(torch.get_num_threads())
        return 1.0 / torch.get_num_threads()

    monkeypatch.setattr(device, "_seconds", seconds)
    monkeypatch.setattr(device, "_MAX_ROUNDS", 3)
    return steps


@pytest.fixture
def no_measurement(monkeypatch):
    monkeypatch.setattr(threads, "choose_num_threads", lambda *_, **__: pytest.fail("measured"))


def small_config(**train_values):
    values = {"window": 16, "batch_size": 2, "device": "cpu", "precision": "fp32", **train_values}
    return build_config({"model": {"mini_batch_size": 8}, "train": values, "evaluation": {"num_checkpoints": 0}})


def earlier(num_threads, **more):
    return {"segments": [{}], "environment": {"num_threads": num_threads}, **more}


def test_a_given_number_wins(no_measurement, monkeypatch):
    old = earlier(2, threads=MEASURED.to_dict())
    assert choose_for_run(small_config(num_threads=1), small_model(), old, lambda: None) == ThreadChoice(
        num_threads=1, why="train.num_threads", tokens_per_second=MEASURED.tokens_per_second
    )
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    assert choose_for_run(small_config(num_threads=1), small_model(), old, lambda: None).num_threads == 1
    torch.set_num_threads(3)
    choice = choose_for_run(small_config(), small_model(), old, lambda: None)
    assert (choice.num_threads, choice.why, torch.get_num_threads()) == (3, "OMP_NUM_THREADS", 3)


def test_a_resume_keeps_the_number_and_the_measured_speeds(no_measurement):
    choice = choose_for_run(small_config(), small_model(), earlier(1, threads=MEASURED.to_dict()), lambda: None)
    assert choice == dataclasses.replace(MEASURED, why="as before")
    assert torch.get_num_threads() == 1
    # version 0.1.0 recorded the number but no measured speeds
    choice = choose_for_run(small_config(), small_model(), earlier(2), lambda: None)
    assert choice == ThreadChoice(num_threads=2, why="as before")


@pytest.mark.parametrize(
    "old",
    [None, earlier(4), {**earlier(1), "segments": []}, earlier(None)],
    ids=["new", "fewer cores", "untrained", "?"],
)
def test_otherwise_it_is_measured(two_are_faster, old):
    """A resume does not keep a number above the available cores, or torch's default from before the training."""
    model, polled = small_model(), []
    choice = choose_for_run(small_config(), model, old, lambda: polled.append(1))
    assert (choice.num_threads, choice.why) == (2, "measured")
    # 32 tokens take half a second with two threads, one second with one
    assert choice.tokens_per_second == {2: 64.0, 1: 32.0}
    assert two_are_faster == [2, *[2, 1] * 3]
    assert len(polled) == len(two_are_faster)


def test_on_a_gpu_nothing_is_measured(no_measurement):
    class OnGpu:
        device = torch.device("cuda")

    assert choose_for_run(small_config(), OnGpu(), earlier(1), lambda: None).to_dict() == {
        "chosen": 2, "why": "all cores", "measured": {},
    }  # fmt: skip


def with_dropout(model):
    """Add dropout, because our models draw no random numbers and the test of the generator needs some."""
    model.model.embed_tokens.register_forward_hook(
        lambda module, _inputs, output: functional.dropout(output, 0.1, module.training)
    )
    return model


def test_the_measurement_leaves_no_trace_in_the_model_and_the_generator(two_are_faster):
    model = with_dropout(small_model())
    before, random = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    choose_for_run(small_config(), model, None, lambda: None)
    assert two_are_faster
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


@pytest.mark.parametrize("initial_state", ["zero", "contiguous"])
def test_a_measured_run_has_the_bits_of_one_whose_threads_are_given(
    two_are_faster, tiny_values, tmp_path, monkeypatch, initial_state
):
    build = start.build_model
    monkeypatch.setattr(start, "build_model", lambda config: with_dropout(build(config)))
    results = []
    for given in (2, None):
        values = tiny_values(train={"num_threads": given, "initial_state": initial_state, "max_steps": 6})
        run = train(values, tmp_path / str(given), report=lambda _: None).run
        losses = [record["loss"].hex() for record in run.read_metrics()]
        results.append((losses, (run.final_model / "model.safetensors").read_bytes()))
        metadata = run.read_metadata()
        assert metadata["environment"]["num_threads"] == metadata["threads"]["chosen"] == 2
        assert metadata["config"]["train"]["num_threads"] is given
        assert bool(metadata["threads"]["measured"]) is (given is None)
    assert len(two_are_faster) == 7
    assert results[0] == results[1]


def test_out_of_memory_during_the_measurement_is_left_to_training(monkeypatch):
    model = small_model()

    def fail(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(model, "loss", fail)
    choice = choose_for_run(small_config(), model, None, lambda: None)
    assert (choice.num_threads, choice.why) == (2, "not measured: out of memory")
    monkeypatch.setattr(model, "loss", lambda *_: pytest.fail("another fault"))
    with pytest.raises(pytest.fail.Exception):
        choose_for_run(small_config(), model, None, lambda: None)


def test_the_choice_is_recorded_logged_and_kept(two_are_faster, tiny_values, tmp_path):
    events, path = [], tmp_path / "run"
    values = tiny_values(train={"num_threads": None, "max_steps": 4}, early_stopping={"enabled": False})

    def stop(event):
        events.append(event)
        if event["event"] == "step" and event["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(values, path, report=stop)
    run, count = RunDirectory(path), len(two_are_faster)
    expected = {"chosen": 2, "why": "measured", "measured": {"1": 64.0, "2": 128.0}}
    plan = next(event for event in events if event["event"] == "plan")
    assert (plan["threads"], plan["num_threads"]) == (expected, 2)
    assert run.read_metadata()["threads"] == expected
    assert "2 threads (measured; tokens/s: 64 with 1, 128 with 2)" in run.training_log.read_text()
    torch.set_num_threads(1)
    train(values, path, report=events.append)
    assert run.read_metadata()["threads"] == {**expected, "why": "as before"}
    assert (run.read_metadata()["environment"]["num_threads"], torch.get_num_threads()) == (2, 2)
    assert len(two_are_faster) == count
    assert not [event for event in events if event["event"] == "warning"]


def test_a_stop_during_the_measurement_ends_the_run_before_its_first_step(tiny_values, tmp_path, monkeypatch):
    def stop(*_):
        raise StopRequestedError("SIGTERM")

    monkeypatch.setattr(start, "choose_for_run", stop)
    with pytest.raises(PreemptedError, match="before the first step"):
        train(tiny_values(), tmp_path / "run", report=lambda _: None)
    assert RunDirectory(tmp_path / "run").read_metadata()["result"] == {
        "reason": "preempted", "step": 0, "tokens_seen": 0, "saved_step": None,
    }  # fmt: skip


class Machine:
    """Time and core counters that move with the steps of a run."""

    def __init__(self, monkeypatch) -> None:
        self.now = self.busy = 0.0
        monkeypatch.setattr(threads.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(threads, "read_cores", self.read)

    def read(self) -> CoreReading:
        return CoreReading(seconds=self.now, busy=self.busy, own=0.0)

    def run(self, watch, *, tokens_per_second, others, seconds=25.0, window=64) -> list[str]:
        """Train for `seconds` with 1,000 tokens per step; return the warnings."""
        messages = []
        for _ in range(int(seconds * tokens_per_second / 1000)):
            self.now += 1000 / tokens_per_second
            self.busy += others * 1000 / tokens_per_second
            messages.append(watch.observe(1000 / tokens_per_second, window))
        return [message for message in messages if message is not None]


def watch_of(num_threads=2, table=None):
    choice = ThreadChoice(num_threads=num_threads, why="measured", tokens_per_second=table or {})
    return ThreadWatch(choice, tokens_per_step=1000, run="runs/quick")


def test_the_watch_warns_once_and_says_what_to_do(monkeypatch):
    machine, watch = Machine(monkeypatch), watch_of(table={1: 4318.0, 2: 6287.0})
    assert machine.run(watch, tokens_per_second=6300, others=0.1) == []
    assert machine.run(watch, tokens_per_second=1500, others=0.8) == [
        (
            "throughput fell from 6,300 to 1,500 tokens/s while other processes use 0.8 of 2 cores; 1 thread would "
            "give about 4,318: stop the run and continue it with `tttkit resume runs/quick --threads 1`"
        )
    ]
    assert machine.run(watch, tokens_per_second=1500, others=0.8, seconds=100) == []


def test_two_other_processes_leave_a_share_of_the_cores(monkeypatch):
    machine, watch = Machine(monkeypatch), watch_of(table={1: 4500.0, 2: 6287.0})
    assert "1 thread would give about 3,000:" in machine.run(watch, tokens_per_second=700, others=1.4)[0]


def test_a_resumed_run_is_compared_with_the_measured_speeds(monkeypatch):
    """Without them, a run that resumes while other processes run has no faster speed to compare with."""
    machine = Machine(monkeypatch)
    table = {1: 4318.0, 2: 6287.0}
    assert machine.run(watch_of(table=table), tokens_per_second=1500, others=0.8)
    assert not machine.run(watch_of(), tokens_per_second=1500, others=0.8)


def test_without_measured_speeds_the_estimate_is_in_proportion(monkeypatch):
    machine, watch = Machine(monkeypatch), watch_of()
    machine.run(watch, tokens_per_second=6000, others=0.0)
    assert "1 thread would give about 3,000:" in machine.run(watch, tokens_per_second=1500, others=0.8)[0]


@pytest.mark.parametrize(
    ("num_threads", "tokens_per_second", "others", "cores"),
    [
        (2, 3200, 0.8, 2),
        (2, 1500, 0.4, 2),
        (2, 1500, 2.0, 8),
        (1, 1500, 1.0, 2),
    ],
    ids=["at least half as fast", "others use little", "enough cores for all", "enough cores for one thread"],
)
def test_the_watch_is_silent(monkeypatch, num_threads, tokens_per_second, others, cores):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(cores)))
    machine, watch = Machine(monkeypatch), watch_of(num_threads)
    assert machine.run(watch, tokens_per_second=6300, others=0.0) == []
    assert machine.run(watch, tokens_per_second=tokens_per_second, others=others) == []


def test_with_one_thread_the_watch_warns_without_advice(monkeypatch):
    machine, watch = Machine(monkeypatch), watch_of(1)
    machine.run(watch, tokens_per_second=4000, others=0.0)
    (message,) = machine.run(watch, tokens_per_second=1500, others=1.6)
    assert message.endswith("from 4,000 to 1,500 tokens/s while other processes use 1.6 of 2 cores")


def test_useless_advice_is_left_out(monkeypatch):
    machine, watch = Machine(monkeypatch), watch_of(table={1: 1000.0, 2: 6287.0})
    (message,) = machine.run(watch, tokens_per_second=1500, others=0.8)
    assert "resume" not in message


def test_another_stage_has_another_throughput(monkeypatch):
    machine, watch = Machine(monkeypatch), watch_of(table={1: 4318.0, 2: 6287.0})
    assert machine.run(watch, tokens_per_second=6300, others=0.0) == []
    assert machine.run(watch, tokens_per_second=1500, others=0.8, window=256) == []


def test_without_counters_there_is_no_warning(monkeypatch):
    machine, watch = Machine(monkeypatch), watch_of()
    monkeypatch.setattr(threads, "read_cores", lambda: None)
    machine.run(watch, tokens_per_second=6300, others=0.0)
    assert machine.run(watch, tokens_per_second=1500, others=0.8) == []


def test_the_warning_is_shown_logged_and_in_status(tiny_values, tmp_path, monkeypatch):
    run, shown = RunDirectory(tmp_path / "run"), []
    monkeypatch.setattr(ThreadWatch, "observe", lambda *_: None if shown else "others use the cores")

    def report(event):
        if event["event"] == "warning":
            shown.append((event["message"], read_status(run).slowed_down))

    train(tiny_values(train={"max_steps": 3}), run.path, report=report)
    assert shown == [("others use the cores", "others use the cores")]
    assert run.training_log.read_text().count("others use the cores") == 1
    assert run.read_metadata()["threads"]["warning"] == "others use the cores"
    assert read_status(run).slowed_down is None, "the run has ended"
    json.dumps(read_status(run).to_dict())
