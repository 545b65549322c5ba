"""A rank that is killed or hangs is named, the others end, and the run goes on with the same bits."""

from __future__ import annotations

import os
import random
import re
import signal
import time

import pytest

from tests.distributed.ranks import codes_of, start_ranks, train
from tttkit.distributed.group import joined
from tttkit.errors import RankLostError
from tttkit.health.status import read_status
from tttkit.run.directory import RunDirectory
from tttkit.run.world import world_of

NUM_KILLS = 200 if os.environ.get("TTTKIT_SLOW_TESTS") else 2
LOST = RankLostError.exit_code


@pytest.fixture
def values(tiny_values):
    def build(**settings):
        return tiny_values(
            train={"max_steps": 40, "global_batch": 8, "initial_state": "contiguous", "rank_timeout": 4.0, **settings},
            evaluation={"num_checkpoints": 3}, early_stopping={"enabled": False},
        )  # fmt: skip

    return build


def started(values, path, log, size=2):
    """Start ranks and wait until they train."""
    ranks = start_ranks(size, train, values, str(path), log=log)
    run = RunDirectory(path)
    while not run.metrics.exists():
        time.sleep(0.02)
    return ranks, run


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_is_killed_or_hangs_is_named(values, tmp_path, number):
    ranks, run = started(values(max_steps=100_000, save_every=100_000), tmp_path / "run", tmp_path / "log")
    pid, began = ranks[1].pid, time.monotonic()
    os.kill(pid, number)
    ranks[0].join(30)
    assert (ranks[0].exitcode, time.monotonic() - began < 30) == (LOST, True)
    codes_of(ranks, 0.1)
    what = "was killed at step" if number == signal.SIGKILL else "no sign of life for 4 s from"
    status = read_status(run)
    assert status.state == "crashed"
    assert what in status.reason
    assert f"rank 1 (host {os.uname().nodename}, pid {pid})" in status.reason
    assert "training checkpoint" in status.reason
    assert (status.ranks["world_size"], status.ranks["lost"] in status.reason) == (2, True)
    assert re.search(f"rank 1 .*{pid}", run.training_log.read_text())


def late_to_listen():
    """Let rank 1 read the last message of rank 0 when rank 0 has nothing left to do."""
    with joined(world_of(), timeout=20) as ranks:
        if not ranks.world.is_first:
            time.sleep(3)
        assert ranks.tell(7) == 7


def test_a_rank_that_is_late_hears_the_last_message_of_rank_0(tmp_path):
    ranks = start_ranks(2, late_to_listen, log=tmp_path / "log")
    assert codes_of(ranks, 60) == [0, 0], (tmp_path / "log").read_text()


def test_the_status_of_a_live_run_shows_its_ranks(values, tmp_path):
    ranks, run = started(values(max_steps=100_000), tmp_path / "run", tmp_path / "log")
    while (status := read_status(run)).ranks is None or status.ranks["slowest"] is None:
        time.sleep(0.2)
    assert (status.state in ("running", "saving", "evaluating"), status.ranks["world_size"]) == (True, 2)
    assert status.ranks["slowest"] in (0, 1)
    assert status.ranks["silent"] == []
    assert len(status.ranks["ages"]) == 2
    assert max(status.ranks["ages"]) < 30
    for rank in ranks:
        os.kill(rank.pid, signal.SIGTERM)
    assert codes_of(ranks) == [75, 75], (tmp_path / "log").read_text()


def test_a_run_whose_ranks_are_killed_at_random_has_the_bits_of_one_that_was_not(values, tmp_path):
    generator = random.Random(7)
    settings = values(save_every=3)
    whole = start_ranks(2, train, settings, str(tmp_path / "whole"), log=tmp_path / "whole.log")
    assert codes_of(whole) == [0, 0], (tmp_path / "whole.log").read_text()
    num_kills, index = 0, 0
    while num_kills < NUM_KILLS:
        path = tmp_path / f"{index}"
        for _ in range(10):
            ranks, _ = started(settings, path, tmp_path / "log")
            time.sleep(generator.random() * 0.5)
            ranks[generator.randrange(2)].kill()
            if codes_of(ranks, 20.0) == [0, 0]:  # a rank whose peer was killed before they met would wait long
                break
            num_kills += 1
            if num_kills >= NUM_KILLS:
                break
        codes_of(start_ranks(2, train, settings, str(path), log=tmp_path / "log"))
        assert_same(path, tmp_path / "whole", tmp_path / "log")
        index += 1


def assert_same(path, whole, log):
    """Compare losses and weights bit by bit."""
    losses = [[record["loss"] for record in RunDirectory(each).read_metrics()] for each in (path, whole)]
    assert losses[0] == losses[1], log.read_text()
    models = [(each / "final_model" / "model.safetensors").read_bytes() for each in (path, whole)]
    assert models[0] == models[1]
