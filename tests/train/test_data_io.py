"""Shards that shrink during a run: an error with `pread`, then a resumed run; with `mmap` the documented signal."""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal

import pytest

from tests.train.batches.test_feed import results, run_training
from tests.training import train
from tttkit.data import open_split
from tttkit.errors import ShardError


@pytest.fixture
def data(tiny_data, tmp_path):
    return shutil.copytree(tiny_data, tmp_path / "data")


def test_a_run_that_reads_by_position_ends_with_an_error_and_resumes(tiny_values, tiny_data, data, tmp_path):
    whole, _ = run_training(tiny_values(), tmp_path / "whole")
    values = tiny_values(data={"path": str(data), "io": "pread"})

    def cut(event):
        if event["event"] == "step" and event["step"] == 6:
            os.truncate(data / "train-00000.tok", 64)

    with pytest.raises(ShardError, match=r"train-00000\.tok"):
        train(values, tmp_path / "run", report=cut)
    shutil.copy(tiny_data / "train-00000.tok", data / "train-00000.tok")
    run, _ = run_training({**values, "data": {"path": str(data)}}, tmp_path / "run")
    assert results(run) == results(whole)


def test_a_mapped_shard_that_shrinks_ends_the_process_by_sigbus(data):
    """The process does nothing else wrong before it ends, and nothing hangs."""
    split = open_split(data, "train")
    child = os.fork()
    if child == 0:
        try:
            faulthandler.disable()
            os.truncate(data / "train-00000.tok", 64)
            split.tokens(split.num_tokens - 10, split.num_tokens)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGBUS
