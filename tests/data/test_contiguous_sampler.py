from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tttkit.data import ContiguousSampler, open_split, prepare_dataset
from tttkit.errors import DataError


@pytest.fixture(scope="module")
def split(tmp_path_factory, tokenizer_json):
    """Documents of very different lengths in many small shards."""
    root = tmp_path_factory.mktemp("contiguous")
    generator = random.Random(1)
    words = ["".join(generator.choices("abcdefgh", k=generator.randint(2, 9))) for _ in range(4_000)]
    lines = [" ".join(generator.choices(words, k=generator.choice((1, 3, 8, 40)))) for _ in range(300)]
    (root / "text.txt").write_text("\n".join(lines))
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
@settings(max_examples=15)
def test_rows_read_consecutive_windows_and_reset_after_a_document_ended(split, window, seed, world_size, batch_size):
    stream = split.tokens(0, split.num_tokens).astype(np.int64)
    ends = set(split.document_ends.tolist())
    for rank in range(world_size):
        sampler = ContiguousSampler(
            split, window=window, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
        )
        before = np.zeros(batch_size, dtype=np.int64)
        for step in range(min(25, 2 * sampler.steps_per_epoch)):
            tokens, reset = sampler.batch(step)
            assert (tokens.shape, tokens.dtype, reset.dtype) == ((batch_size, window + 1), torch.int64, torch.bool)
            matches = [matching_windows(stream, window, row) for row in tokens.numpy()]
            for row, windows in enumerate(matches):
                assert windows, "a row that is not a window of the stream"
                if step % sampler.steps_per_epoch == 0 or windows == [0]:
                    assert reset[row]
                elif len(windows) == 1:
                    scored = range((windows[0] - 1) * window + 1, windows[0] * window + 1)
                    assert reset[row].item() == any(position + 1 in ends for position in scored)
            current = [windows[0] for windows in matches]
            if window >= 16 and step % sampler.steps_per_epoch:
                assert all(now in (was + 1, 0) for now, was in zip(current, before, strict=True))
            before = np.array(current)


def matching_windows(stream, window, row):
    """Return the indices of the windows of the stream that hold these tokens."""
    num_windows = (len(stream) - 1) // window
    firsts = np.flatnonzero(stream[: num_windows * window : window] == row[0])
    return [int(k) for k in firsts if np.array_equal(stream[k * window : (k + 1) * window + 1], row)]


def test_an_epoch_reads_no_window_twice_and_starts_at_its_own_place(split):
    sampler = ContiguousSampler(split, window=16, batch_size=5, seed=3)
    epochs = [
        [
            tuple(row)
            for step in range(start, start + sampler.steps_per_epoch)
            for row in sampler.batch(step)[0].tolist()
        ]
        for start in (0, sampler.steps_per_epoch)
    ]
    assert len(set(epochs[0])) == len(epochs[0])
    assert len(epochs[0]) == sampler.num_windows // 5 * 5
    assert epochs[0] != epochs[1]


@given(step=st.integers(0, 2**40))
@settings(max_examples=30)
def test_a_batch_depends_only_on_seed_and_step(split, step):
    first, second = (ContiguousSampler(split, window=8, batch_size=4, seed=9) for _ in range(2))
    first.batch(0)
    for one, other in zip(first.batch(step), second.batch(step), strict=True):
        assert torch.equal(one, other)


def test_wrong_arguments_are_named(split):
    with pytest.raises(ValueError, match="window must be at least 1, got 0"):
        ContiguousSampler(split, window=0, batch_size=2)
    with pytest.raises(DataError, match=r"windows of W=64, too few for 1000000 contiguous rows"):
        ContiguousSampler(split, window=64, batch_size=10**6)
    with pytest.raises(ValueError, match="step must be at least 0, got -1"):
        ContiguousSampler(split, window=8, batch_size=2).batch(-1)
