"""Updates that are read late, in one large batch, or replayed as a CUDA graph equal those of the plain loop."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch

from tests.training import train
from tttkit.config.run import build_config
from tttkit.data import open_split
from tttkit.models import build_model
from tttkit.train import update
from tttkit.train.optim import build_optimizer

GRADIENT = {"max_steps": 20, "batch_size": 2, "grad_accumulation": 3, "log_every": 5, "save_every": 7}


def numbers(run):
    keys = ("step", "loss", "grad_norm", "lr", "num_skipped", "tokens_seen")
    return [tuple(str(record[key]) for key in keys) for record in run.read_metrics()]


@pytest.fixture
def late(monkeypatch):
    """Read a CPU as late as a GPU; the result lists how many updates each reading returned."""
    counts = []
    plain_init, plain_read = update.Updater.__init__, update.Updater.read

    def init(self, *arguments, **options):
        plain_init(self, *arguments, **options)
        self._reads_at_once = False

    def read(self):
        updates = plain_read(self)
        counts.append(len(updates))
        return updates

    monkeypatch.setattr(update.Updater, "__init__", init)
    monkeypatch.setattr(update.Updater, "read", read)
    return counts


def poison(monkeypatch, bad_updates):
    """Make the loss of some updates NaN, counted from now on."""
    calls = []
    plain = update.Updater._apply

    def apply(self, loss):
        calls.append(loss)
        return plain(self, loss * math.nan if len(calls) in bad_updates else loss)

    monkeypatch.setattr(update.Updater, "_apply", apply)
    return calls


def test_reading_late_changes_no_numbers(tiny_values, tmp_path, monkeypatch, request):
    values = tiny_values(train=GRADIENT, evaluation={"num_checkpoints": 4})
    calls = poison(monkeypatch, {8, 13})
    at_once = train(values, tmp_path / "at-once", report=lambda event: None).run
    calls.clear()
    reads = request.getfixturevalue("late")
    late = train(values, tmp_path / "late", report=lambda event: None).run
    assert numbers(late) == numbers(at_once)
    assert [row[4] for row in numbers(late)] == ["0", "0", "1", "2", "2"]
    weights = [(run.path / "final_model" / "model.safetensors").read_bytes() for run in (at_once, late)]
    assert weights[0] == weights[1]
    assert sum(reads) == 20
    assert max(reads) >= 3, "several updates were read together"
    summaries = [[item.value("training_loss") for item in run.read_summaries()] for run in (at_once, late)]
    assert summaries[0] == summaries[1]


def test_divergence_is_detected_with_late_reading_too(tiny_values, tmp_path, monkeypatch, late):
    poison(monkeypatch, {9, 10, 11})
    run = train(tiny_values(train=GRADIENT), tmp_path / "run", report=lambda event: None).run
    (rollback,) = run.read_metadata()["rollbacks"]
    assert "not finite in 3 updates in a row" in rollback["why"]


def make_updater(tiny_data, tiny_values, device="cpu", *, auto_microbatch=False, **options):
    config = build_config(tiny_values(model={"vocab_size": 300}, train={**GRADIENT, **options}))
    split = open_split(tiny_data, "train")
    model = build_model(config.model, seed=0).to(device)
    optimizer = build_optimizer(model, config.optimizer)
    return update.Updater(model, optimizer, split, config, torch.device(device), auto_microbatch=auto_microbatch), model


def test_one_large_batch_has_the_gradients_of_accumulation(tiny_data, tiny_values):
    updater, model = make_updater(tiny_data, tiny_values, batch_size=3, grad_accumulation=2)
    assert updater.micro_batch == 3
    windows, gradients = updater.feed.windows(1), []
    # two windows at once cut a batch of three into unequal parts
    for micro_batch in (3, 6, 1, 2):
        updater.restart(micro_batch)
        loss = updater._accumulate(windows, lambda: None)
        gradients.append([loss, *(parameter.grad.clone() for parameter in model.parameters())])
        model.zero_grad()
    for other in gradients[1:]:
        for expected, value in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)


def test_if_memory_holds_only_a_batch_the_update_runs_batch_by_batch(tiny_data, tiny_values, monkeypatch):
    updater, _ = make_updater(tiny_data, tiny_values)
    plain, sizes = update.Updater._backward, []

    def limited(self, batch, share):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise MemoryError
        return plain(self, batch, share)

    monkeypatch.setattr(update.Updater, "_backward", limited)
    updater.restart(6)
    updater.run(1, 1e-3, lambda: None)
    assert sizes == [6, 2, 2, 2]
    assert updater.micro_batch == 2


def test_contiguous_windows_begin_the_update_again_if_memory_ran_out(tiny_data, tiny_values, monkeypatch):
    options = {"batch_size": 4, "grad_accumulation": 1, "initial_state": "contiguous", "auto_microbatch": True}
    roomy, tight = (make_updater(tiny_data, tiny_values, **options)[0] for _ in range(2))
    roomy.restart(2)
    expected = [roomy.run(step, 1e-2, lambda: None)[0].loss for step in (1, 2, 3)]
    plain = update.Updater._backward

    def limited(self, batch, share):
        loss = plain(self, batch, share)
        if len(batch) > 2:
            # memory runs out at the end, when the states after these windows are already kept
            raise MemoryError
        return loss

    monkeypatch.setattr(update.Updater, "_backward", limited)
    assert [tight.run(step, 1e-2, lambda: None)[0].loss for step in (1, 2, 3)] == expected
    assert tight.micro_batch == 2


def windows_per_call(updater):
    """Return a list that receives the number of windows and the number of targets of each call of the model."""
    counts = []
    updater._run.register_forward_pre_hook(
        lambda _, inputs, options: counts.append((len(inputs[0]), len(options["targets"]))), with_kwargs=True
    )
    return counts


@pytest.mark.parametrize(
    ("micro_batch", "expected"), [(None, [2, 2, 2]), (1, [1] * 6), (2, [2, 2, 2]), (4, [4, 2]), (6, [6]), (99, [6])]
)
def test_a_micro_batch_says_how_many_windows_go_through_the_model_at_once(
    tiny_data, tiny_values, micro_batch, expected
):
    """With two windows per batch and three batches per update, the update is the same."""
    updater, _ = make_updater(tiny_data, tiny_values, micro_batch=micro_batch)
    counts = windows_per_call(updater)
    (result,) = updater.run(1, 1e-3, lambda: None)
    assert counts == [(count, count) for count in expected]
    (plain,) = make_updater(tiny_data, tiny_values)[0].run(1, 1e-3, lambda: None)
    assert (result.loss, result.grad_norm) == pytest.approx((plain.loss, plain.grad_norm), rel=1e-4)


@pytest.mark.parametrize(("micro_batch", "expected"), [(None, [6]), (2, [2, 2, 2]), (3, [3, 3])])
def test_on_a_gpu_all_windows_of_an_update_go_at_once_by_default(tiny_data, tiny_values, micro_batch, expected):
    """A CPU can show this, because the updater takes its default from the device that it is given."""
    updater, _ = make_updater(tiny_data, tiny_values, micro_batch=micro_batch)
    updater._device = torch.device("cuda")
    updater.restart(None)
    updater._device = torch.device("cpu")
    counts = windows_per_call(updater)
    updater.run(1, 1e-3, lambda: None)
    assert [count for count, _ in counts] == expected
    updater.restart(1)
    assert updater.micro_batch == 1, "a lowered micro-batch stays low"


def test_the_micro_batch_is_recorded_and_the_run_resumes(tiny_values, tmp_path):
    run = train(tiny_values(train={"max_steps": 2, "micro_batch": 1}), tmp_path / "run", report=lambda event: None).run
    assert run.read_metadata()["config"]["train"]["micro_batch"] == 1


def test_a_non_finite_update_changes_neither_weights_nor_moments(tiny_data, tiny_values):
    updater, model = make_updater(tiny_data, tiny_values)
    updater.run(1, 1e-2, lambda: None)
    state = updater._optimizer.state
    before = [tensor.clone() for p in model.parameters() for tensor in (p.detach(), *state[p].values())]
    loss = updater._accumulate(updater.feed.windows(2), lambda: None)
    updater._apply(loss * math.nan)
    after = [tensor for p in model.parameters() for tensor in (p.detach(), *state[p].values())]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    updater._apply(updater._accumulate(updater.feed.windows(3), lambda: None))
    assert not torch.equal(before[0], next(model.parameters()))


def test_updates_read_together_have_their_mean_time_and_are_forgotten_at_a_restart(tiny_data, tiny_values, monkeypatch):
    updater, _ = make_updater(tiny_data, tiny_values)
    updater._reads_at_once = False
    clock = iter([10.0, 16.0, 20.0, 21.0])
    monkeypatch.setattr(update.time, "perf_counter", lambda: next(clock))
    groups = [updater.run(step, 1e-3, lambda: None, read=step == 3) for step in (1, 2, 3)]
    assert [len(group) for group in groups] == [0, 0, 3]
    assert [(each.step, each.seconds) for each in groups[2]] == [(1, 2.0), (2, 2.0), (3, 2.0)]
    assert updater.run(4, 1e-3, lambda: None, read=False) == []
    updater.restart(None)
    assert updater.read() == []


def test_a_micro_batch_holds_as_many_tokens_in_longer_windows(tiny_data, tiny_values, monkeypatch):
    stages = [{"share": 0.5, "window": 16}, {"share": 0.5, "window": 32}]
    updater, _ = make_updater(tiny_data, tiny_values, batch_size=4, grad_accumulation=1, stages=stages)
    plain, sizes = update.Updater._backward, []
    monkeypatch.setattr(
        update.Updater,
        "_backward",
        lambda self, batch, share: sizes.append(tuple(batch.shape)) or plain(self, batch, share),
    )
    updater.restart(2)
    for step in (10, 11):
        updater.run(step, 1e-3, lambda: None)
    assert sizes == [(2, 17), (2, 17), (1, 33), (1, 33)]


def test_a_limit_of_zero_clips_nothing(tiny_data, tiny_values):
    moments = []
    for limit in (0.0, 1e9):
        config = build_config(
            tiny_values(model={"vocab_size": 300}, train=GRADIENT, optimizer={"max_grad_norm": limit})
        )
        model = build_model(config.model, seed=0)
        split, optimizer = open_split(tiny_data, "train"), build_optimizer(model, config.optimizer)
        updater = update.Updater(model, optimizer, split, config, torch.device("cpu"), auto_microbatch=False)
        updater.run(1, 1e-2, lambda: None)
        moments.append(optimizer.state[model.model.norm.weight]["exp_avg"])
    assert moments[0].abs().sum() > 0
    assert torch.equal(*moments)


def test_the_model_starts_contiguous_windows_from_the_states_after_the_update_before(tiny_data, tiny_values):
    """With accumulation, every micro-batch gets the states of its own rows."""
    updater, _ = make_updater(tiny_data, tiny_values, initial_state="contiguous")
    before, after, resets = [], [], []

    def watch(_, inputs, options, result):
        before.append(options["state"])
        after.append(result[1])

    updater._run.register_forward_hook(watch, with_kwargs=True)
    for step in (1, 2):
        _, ended = updater.feed._sources[0].states.read(step, None)
        resets.append(ended)
        updater.run(step, 1e-3, lambda: None)
    deltas = [torch.cat([state.layers[0]["delta1"] for state in states]).detach() for states in (before, after)]
    first, second = deltas[0].split(6)
    assert not first.any()
    expected = torch.where(resets[1][:, None, None, None], 0.0, deltas[1][:6])
    assert expected.any()
    assert torch.equal(second, expected)


def test_contiguous_rows_start_from_zero_after_a_non_finite_update(tiny_data, tiny_values, monkeypatch):
    updater, _ = make_updater(tiny_data, tiny_values, initial_state="contiguous")
    poison(monkeypatch, {2})
    sizes = []
    for step in (1, 2, 3):
        (result,) = updater.run(step, 1e-3, lambda: None)
        before = updater.feed._states.first_states(2).layers[0]["delta1"]
        sizes.append(float(before.abs().sum()))
        assert result.applied == (step != 2)
    assert sizes[0] == 0
    assert sizes[1] > 0
    assert sizes[2] == 0


class Graph:
    """A substitute for `StepGraph` that is ready after one update and computes the function without recording."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def is_ready(self, windows):
        assert windows.device.type == "cpu"
        return "done" in self.calls

    def forget(self):
        self.calls.append("forget")

    @contextlib.contextmanager
    def warm_up(self):
        self.calls.append("warm up")
        yield
        self.calls.append("done")

    def __call__(self, windows):
        self.calls.append("replay")
        return self.function(windows)


def test_updates_warm_the_graph_up_and_then_replay_it(tiny_data, tiny_values):
    graphed, plain = (make_updater(tiny_data, tiny_values)[0] for _ in range(2))
    graph = graphed._graph = Graph(graphed._compute)
    graphed._reads_at_once = False
    losses = [[updater.run(step, 1e-2, lambda: None)[0].loss for step in (1, 2, 3)] for updater in (graphed, plain)]
    assert graph.calls == ["warm up", "done", "replay", "replay"]
    assert losses[0] == losses[1]


def test_contiguous_windows_that_begin_late_release_the_graph(tiny_data, tiny_values):
    updater, _ = make_updater(tiny_data, tiny_values, initial_state="contiguous", initial_state_from=0.2)
    graph = updater._graph = Graph(updater._compute)
    updater._reads_at_once = False
    counts = [len(updater.run(step, 1e-2, lambda: None, read=False)) for step in range(1, 7)]
    assert graph.calls == ["warm up", "done", "replay", "replay", "replay", "forget", "forget"]
    assert counts == [0, 0, 0, 0, 5, 1]


def test_contiguous_windows_that_begin_late_are_read_after_every_update(tiny_values, tmp_path, monkeypatch, request):
    """The last update before contiguous windows and a contiguous update are skipped."""
    values = tiny_values(
        train={**GRADIENT, "initial_state": "contiguous", "initial_state_from": 0.45}, evaluation={"num_checkpoints": 2}
    )
    calls = poison(monkeypatch, {9, 13})
    runs = [train(values, tmp_path / "at-once", report=lambda event: None).run]
    calls.clear()
    reads = request.getfixturevalue("late")
    runs.append(train(values, tmp_path / "late", report=lambda event: None).run)
    assert numbers(runs[0]) == numbers(runs[1])
    weights = [(run.path / "final_model" / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]
    assert max(reads) >= 3, "several updates were read together"
    assert [count for count in reads if count][-11:] == [3, *[1] * 10], (
        "the first contiguous update is read with the two before it"
    )


@pytest.mark.gpu
@pytest.mark.filterwarnings("default")  # torch.compile warns about its own internals
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA graph needs a GPU")
def test_a_graph_equals_the_update_that_it_recorded(tiny_data, tiny_values):
    graphed, plain = (make_updater(tiny_data, tiny_values, "cuda") for _ in range(2))
    plain[0]._graph._stream = None
    runs = []
    for updater, model in (graphed, plain):
        updates = [updater.run(step, 1e-2 / step, lambda: None, read=step % 4 == 0) for step in range(1, 9)]
        runs.append(([u.loss for group in updates for u in group], list(model.parameters())))
    assert graphed[0]._graph._graph is not None
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-4)
    for left, right in zip(runs[0][1], runs[1][1], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("train_values", "expected"),
    [
        ({}, "eager: as configured"),
        ({"max_steps": 10**9}, "blocks compiled for cpu"),
        ({"max_steps": 10**9, "compile": False}, "eager: as configured"),
        ({"compile": True}, "blocks compiled for cpu"),
    ],
)
def test_blocks_are_compiled_if_the_run_is_long_enough(tiny_data, tiny_values, train_values, expected, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert make_updater(tiny_data, tiny_values, **train_values)[0].how == expected
    monkeypatch.setattr("shutil.which", lambda name: None)
    without = "eager: no C++ compiler found" if "compiled" in expected else expected
    assert make_updater(tiny_data, tiny_values, **train_values)[0].how == without
