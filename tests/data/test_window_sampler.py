from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tttkit.data import WindowSampler, open_split, prepare_dataset
from tttkit.errors import DataError


@pytest.fixture(scope="module")
def split(tmp_path_factory, tokenizer_json):
    """A few thousand tokens in many small shards, so that windows cross shards and documents."""
    root = tmp_path_factory.mktemp("windows")
    (root / "text.txt").write_text("\n".join(f"line {index}: {'the cat sat ' * (index % 7)}" for index in range(300)))
    prepare_dataset(
        [str(root / "text.txt")], root / "data", str(tokenizer_json), validation_fraction=0, documents="line",
        shard_tokens=97,
    )  # fmt: skip
    return open_split(root / "data", "train")


def draw(split, num_windows, *, world_size=1, start=0, **options):
    """Return the tokens of `num_windows` windows in the order of steps and ranks."""
    samplers = [WindowSampler(split, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    per_step = options["batch_size"] * world_size
    steps = range(start, start + -(-num_windows // per_step))
    rows = [row for step in steps for sampler in samplers for row in sampler.batch(step).tolist()]
    return [tuple(row) for row in rows[:num_windows]]


@given(
    window=st.integers(1, 200),
    seed=st.integers(0, 2**64 - 1),
    world_size=st.integers(1, 4),
    batch_size=st.integers(1, 9),
)
@settings(max_examples=150)
def test_the_ranks_read_every_window_of_an_epoch_exactly_once(split, window, seed, world_size, batch_size):
    options = {"window": window, "seed": seed, "world_size": world_size, "batch_size": batch_size}
    num_windows = (split.num_tokens - 1) // window
    assert WindowSampler(split, window=window, batch_size=1).windows_per_epoch == num_windows
    tokens = split.tokens(0, split.num_tokens).tolist()
    expected = sorted(tuple(tokens[k * window : k * window + window + 1]) for k in range(num_windows))
    two_epochs = draw(split, 2 * num_windows, **options)
    assert sorted(two_epochs[:num_windows]) == expected
    assert sorted(two_epochs[num_windows:]) == expected


def test_every_epoch_and_seed_has_its_own_order(split):
    options = {"window": 16, "batch_size": 8}
    num_windows = (split.num_tokens - 1) // 16
    orders = [draw(split, num_windows, seed=seed, **options) for seed in range(5)]
    second = draw(split, 2 * num_windows, seed=0, **options)[num_windows:]
    assert len({tuple(order) for order in [*orders, second]}) == 6


@given(step=st.integers(0, 2**40), seed=st.integers(0, 1000))
@settings(max_examples=50)
def test_a_batch_depends_only_on_seed_and_step(split, step, seed):
    options = {"window": 32, "batch_size": 4, "seed": seed}
    sampler = WindowSampler(split, **options)
    sampler.batch(0)
    batch = sampler.batch(step)
    assert batch.dtype == torch.int64
    assert batch.shape == (4, 33)
    assert torch.equal(batch, WindowSampler(split, **options).batch(step))


def test_order_is_unrelated_to_position(split):
    """The order is a permutation, not a rotation: neighbors in the stream are rarely neighbors in the order."""
    sampler = WindowSampler(split, window=8, batch_size=(split.num_tokens - 1) // 8, seed=3)
    tokens = split.tokens(0, split.num_tokens)
    position = {tuple(tokens[k * 8 : k * 8 + 9].tolist()): k for k in range((split.num_tokens - 1) // 8)}
    order = np.array([position[tuple(row)] for row in sampler.batch(0).tolist()])
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"window": 0}, ValueError, "window must be at least 1, got 0"),
        ({"batch_size": -1}, ValueError, "batch_size must be at least 1, got -1"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank must be in 0 … 1, got 2"),
        ({"seed": -1}, ValueError, "seed must be in"),
        ({"window": 10**6}, DataError, "one window of W=1000000 needs 1000001"),
    ],
)
def test_wrong_arguments_are_named(split, options, error, message):
    with pytest.raises(error, match=message):
        WindowSampler(split, **{"window": 8, "batch_size": 2, **options})
    with pytest.raises(ValueError, match="step must be at least 0"):
        WindowSampler(split, window=8, batch_size=2).batch(-1)
