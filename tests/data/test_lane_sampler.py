from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tttkit.data import LaneSampler, open_split, prepare_dataset
from tttkit.errors import DataError


@pytest.fixture(scope="module")
def split(tmp_path_factory, tokenizer_json):
    """Documents of very different lengths in many small shards."""
    root = tmp_path_factory.mktemp("lanes")
    (root / "text.txt").write_text("\n".join(f"line {index}: {'the cat sat ' * (index % 23)}" for index in range(200)))
    prepare_dataset(
        [str(root / "text.txt")], root / "data", str(tokenizer_json), validation_fraction=0, documents="line",
        shard_tokens=97,
    )  # fmt: skip
    return open_split(root / "data", "train")


@given(
    window=st.integers(1, 70),
    seed=st.integers(0, 2**64 - 1),
    world_size=st.integers(1, 3),
    batch_size=st.integers(1, 6),
)
@settings(max_examples=60, deadline=None)
def test_rows_walk_on_and_reset_where_a_document_ended(split, window, seed, world_size, batch_size):
    stream, ends = split.tokens(0, split.num_tokens).astype("int64"), set(split.document_ends.tolist())
    position = {tuple(stream[k * window : (k + 1) * window + 1].tolist()): k for k in range(split.num_tokens // window)}
    assume_unique = len(position) == split.num_tokens // window
    samplers = [
        LaneSampler(split, window=window, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for sampler in samplers:
        before = None
        for step in range(min(40, 2 * sampler.steps_per_epoch)):
            tokens, reset = sampler.batch(step)
            assert tokens.shape == (batch_size, window + 1)
            assert tokens.dtype == torch.int64
            assert reset.dtype == torch.bool
            if step % sampler.steps_per_epoch == 0:
                assert reset.all()
            for row in range(batch_size):
                if before is not None and not reset[row]:
                    assert tokens[row, 0] == before[row, -1]  # the last target is the next first token
                if before is not None and assume_unique and step % sampler.steps_per_epoch:
                    k, previous = position[tuple(tokens[row].tolist())], position[tuple(before[row].tolist())]
                    scored = range((k - 1) * window + 1, k * window + 1)
                    assert reset[row].item() == (k == 0 or any(at + 1 in ends for at in scored))
                    assert k == 0 or k == previous + 1
            before = tokens


def test_an_epoch_reads_no_window_twice_and_starts_elsewhere(split):
    sampler = LaneSampler(split, window=16, batch_size=5, seed=3)
    epochs = [
        [
            tuple(row)
            for step in range(start, start + sampler.steps_per_epoch)
            for row in sampler.batch(step)[0].tolist()
        ]
        for start in (0, sampler.steps_per_epoch)
    ]
    assert len(set(epochs[0])) > 0.9 * len(epochs[0])  # some text repeats itself
    assert len(epochs[0]) == sampler.num_windows // 5 * 5
    assert epochs[0] != epochs[1]


@given(step=st.integers(0, 2**40))
@settings(max_examples=30, deadline=None)
def test_a_batch_depends_on_seed_and_step_alone(split, step):
    first, second = (LaneSampler(split, window=8, batch_size=4, seed=9) for _ in range(2))
    first.batch(0)
    for one, other in zip(first.batch(step), second.batch(step), strict=True):
        assert torch.equal(one, other)


def test_wrong_arguments_are_named(split):
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        LaneSampler(split, window=0, batch_size=2)
    with pytest.raises(DataError, match=r"windows of W=64, too few for 1000000 lanes"):
        LaneSampler(split, window=64, batch_size=10**6)
    with pytest.raises(ValueError, match="step must be at least 0, got -1"):
        LaneSampler(split, window=8, batch_size=2).batch(-1)
