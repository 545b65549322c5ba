"""Stages of window lengths: their first steps, their windows, and runs that stop during a stage."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.train.batches.test_feed import CrashError, results, run_training
from tttkit.config.layers import to_toml
from tttkit.config.run import TrainConfig, build_config
from tttkit.data import open_split
from tttkit.data.window_sampler import WindowSampler
from tttkit.errors import DataError, UsageError
from tttkit.train.batches.curriculum import stage_index, stages_of

STAGES = [{"share": 0.25, "window": 8}, {"share": 0.5, "window": 32}, {"share": 0.25, "window": 16}]
CONTIGUOUS = {"initial_state": "contiguous", "initial_state_from": 0.1, "initial_state_reset": 0.1}


def firsts(shares, max_steps, **options):
    stages = [{"share": share, "window": 16 * (index + 1)} for index, share in enumerate(shares)]
    values = {"max_steps": max_steps, "window": 96, "batch_size": 5, "grad_accumulation": 2, "stages": stages}
    return [(stage.first_step, stage.window, stage.num_windows) for stage in stages_of(TrainConfig(**values))]


def test_stages_begin_at_their_share_of_the_steps():
    assert firsts([0.5, 0.3, 0.2], 100) == [(1, 16, 60), (51, 32, 30), (81, 48, 20)]
    assert firsts([0.5, 0.001, 0.499], 100) == [(1, 16, 60), (51, 48, 20)]
    assert firsts([0.001, 0.999], 100) == [(1, 32, 30)]
    assert firsts([0.5, 0.5], 0) == [(1, 16, 60)]
    assert [stage.num_windows for stage in stages_of(TrainConfig(batch_size=3, grad_accumulation=2))] == [6]
    stages = stages_of(TrainConfig(max_steps=10, stages=[{"share": 0.3, "window": 32}, {"share": 0.7, "window": 64}]))
    assert [stage_index(stages, step) for step in (0, 1, 3, 4, 10, 11)] == [0, 0, 0, 1, 1, 1]


@given(parts=st.lists(st.integers(1, 50), min_size=1, max_size=6), max_steps=st.integers(1, 500))
def test_stages_cover_all_steps_in_order(parts, max_steps):
    stages = [{"share": part / sum(parts), "window": 2**index} for index, part in enumerate(parts)]
    config = TrainConfig(window=64, batch_size=2, max_steps=max_steps, stages=stages)
    in_order = stages_of(config)
    windows = [in_order[stage_index(in_order, step)].window for step in range(1, max_steps + 1)]
    assert windows == sorted(windows)
    assert {stage.window for stage in in_order} == set(windows)
    assert all(stage.num_windows * stage.window == 128 for stage in in_order)
    for stage in stages:
        assert windows.count(stage["window"]) == pytest.approx(stage["share"] * max_steps, abs=1 + 1e-9)


@pytest.mark.parametrize(
    "train_values", [{}, CONTIGUOUS, {**CONTIGUOUS, "initial_state_decay": 0.7}], ids=["zero", "contiguous", "decay"]
)
def test_a_run_with_stages_resumes_bit_for_bit(tiny_values, tmp_path, train_values):
    """The run stops during stages, saves at the last step of the first stage, and resumes across both borders."""
    scale = 2 if "initial_state_decay" in train_values else 1
    stages = [{**stage, "window": scale * stage["window"]} for stage in STAGES]
    values = tiny_values(train={"stages": stages, "save_every": 3, **train_values})
    whole, _ = run_training(values, tmp_path / "whole")
    for step in (2, 4, 8, 11):
        with pytest.raises(CrashError):
            run_training(values, tmp_path / "stopped", crash_at=step)
    stopped, _ = run_training(values, tmp_path / "stopped")
    assert results(stopped) == results(whole)
    windows = [record["window"] for record in whole.read_metrics()]
    assert windows == [scale * window for window in (8, 8, 8, 32, 32, 32, 32, 32, 32, 16, 16, 16)]
    losses = [record["loss"] for record in whole.read_metrics()]
    # a mean over tokens, however they are cut into windows
    assert losses == pytest.approx([math.log(300)] * 12, rel=0.35)
    assert {record["tokens_seen"] // record["step"] for record in whole.read_metrics()} == {64}
    assert {summary.window for summary in whole.read_summaries()} == {16}


def test_one_stage_of_the_base_window_equals_a_run_without_stages(tiny_values, tmp_path):
    plain, _ = run_training(tiny_values(), tmp_path / "plain")
    staged, _ = run_training(
        tiny_values(train={"stages": [{"share": 0.5, "window": 16}, {"share": 0.5, "window": 16}]}), tmp_path / "staged"
    )
    assert results(staged) == results(plain)


def test_contiguous_rows_start_from_zero_when_a_stage_begins(tiny_data):
    from tests.models.small import small_model
    from tttkit.train.batches.feed import Feed

    stages = [{"share": 0.5, "window": 16}, {"share": 0.5, "window": 32}]
    config = TrainConfig(window=16, batch_size=4, max_steps=8, initial_state="contiguous", stages=stages)
    model = small_model(vocab_size=300, mini_batch_size=8)
    feed = Feed(model, open_split(tiny_data, "train"), config)
    sizes = []
    for step in range(1, 9):
        tokens = feed.windows(step)
        state = feed.initial_state(len(tokens))
        sizes.append(state.layers[0]["delta1"].flatten(1).abs().sum(1))
        with torch.no_grad():
            _, after = model(tokens[:, :-1], state=state)
        feed.keep_state(after)
        feed.end_update(applied=True)
    feed.close()
    assert [len(size) for size in sizes] == [4] * 4 + [2] * 4
    assert not sizes[0].any()
    assert not sizes[4].any()
    assert sizes[3].any()
    assert sizes[7].any()


def test_a_stage_reads_the_windows_of_its_length(tiny_data, tiny_values, tmp_path):
    """An update with accumulation reads what one batch of all its windows reads."""
    from tests.models.small import small_model
    from tttkit.train.batches.feed import Feed

    split = open_split(tiny_data, "train")
    config = TrainConfig(window=16, batch_size=4, grad_accumulation=2, max_steps=12, seed=3, stages=STAGES)
    feed = Feed(small_model(vocab_size=300), split, config)
    for step, window in ((1, 8), (3, 8), (4, 32), (9, 32), (10, 16), (12, 16)):
        expected = WindowSampler(split, window=window, batch_size=128 // window, seed=3).batch(step - 1)
        assert torch.equal(feed.windows(step), expected)
        assert feed.window == window
    feed.close()


@pytest.mark.parametrize(
    ("stages", "train_values", "message"),
    [
        ([{"share": 0.5, "window": 64}], {}, "shares of train.stages must sum to 1, got 0.5"),
        ([{"share": 1.0, "window": 40}], {}, r"train.stages\[0\].window must be a multiple of model.mini_batch_size"),
        ([{"share": 1.0, "window": 48}], {}, r"must divide .* = 2048, got 48"),
        (
            [{"share": 1.0, "window": 32}],
            {"initial_state": "contiguous", "initial_state_decay": 0.5},
            "must be a multiple of train.window",
        ),
        ([{"share": 1.0, "window": 64, "widow": 3}], {}, "unknown key `train.stages.0.widow`"),
        ([{"share": 0.0, "window": 64}], {}, "train.stages.0.share"),
        ([{"window": 64}], {}, "train.stages.0.share"),
    ],
)
def test_contradictions_are_refused(stages, train_values, message):
    with pytest.raises(UsageError, match=message):
        build_config({"train": {"stages": stages, **train_values}})


def test_text_too_short_for_the_longest_stage_is_refused(tiny_values, tmp_path):
    stages = [{"share": 0.5, "window": 16}, {"share": 0.5, "window": 1 << 20}]
    values = tiny_values(train={"batch_size": 1 << 16, "stages": stages})
    with pytest.raises(DataError, match="one window of W=1048576"):
        run_training(values, tmp_path / "run")


def test_stages_survive_toml():
    import tomllib

    values = build_config({"train": {"stages": [{"share": 0.5, "window": 32}, {"share": 0.5, "window": 64}]}}).to_dict()
    assert tomllib.loads(to_toml(values))["train"]["stages"] == values["train"]["stages"]


def test_a_run_whose_config_has_no_stages_resumes(tiny_values, tmp_path):
    """Keys that the config of an older run lacks have their defaults."""
    from tttkit.storage import files

    with pytest.raises(CrashError):
        run_training(tiny_values(), tmp_path / "run", crash_at=6)
    metadata = files.read_json(tmp_path / "run" / "metadata.json")
    del metadata["config"]["train"]["stages"]
    files.write_json(tmp_path / "run" / "metadata.json", metadata)
    run, _ = run_training(tiny_values(), tmp_path / "run")
    assert run.read_metadata()["result"]["reason"] == "finished"
