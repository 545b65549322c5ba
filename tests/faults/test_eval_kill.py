"""Promise: a killed `tttkit eval checkpoint` continues from its finished blocks, with the same results.

The command is killed by SIGKILL within its long passes over the validation split. See docs/reliability.md.
"""

from __future__ import annotations

import random
import signal

import pytest

from tests.conftest import WORDS
from tests.faults import trials
from tests.faults.conftest import assert_no_leftovers, run_trial
from tests.faults.disks import KilledAt
from tests.faults.test_phases import results_of
from tttkit.data import open_split, prepare_dataset

LEAST_TOKENS = 4 << 16
"""At least four blocks in the pass over the whole split and in the pass over 4,096 windows."""
KILLS = [("selection", 3), ("whole", 3), ("whole", 2)]
"""Kills in order: each names a pass and the number of the block whose write is prevented."""


class Keeping:
    """Match the calls that rename a block into place: any block whose name starts with a text or is in a set."""

    def __init__(self, names: str | set[str]) -> None:
        self.names = names

    def __call__(self, name: str, arguments: tuple) -> bool:
        target = arguments[-1].name if name == "rename" else ""
        return target.startswith(self.names) if isinstance(self.names, str) else target in self.names


@pytest.fixture
def command(reference, tmp_path):
    """The command without the path of its results, for a text of several 100,000 tokens and two short sequences."""
    generator = random.Random(0)
    text, data = tmp_path / "text.txt", tmp_path / "data"
    text.write_text(" ".join(generator.choice(WORDS) for _ in range(200_000)))
    prepare_dataset([str(text)], data, str(reference.best_model / "tokenizer.json"), validation=[str(text)])
    assert open_split(data, "validation").num_tokens > LEAST_TOKENS
    options = ["--data", str(data), "--max-length", "64", "--num-sequences", "2"]
    return ["eval", "checkpoint", str(reference.best_model), *options, "--out"]


def blocks_of(out, passed: str) -> set[str]:
    """Return the names of the finished blocks of a pass."""
    return {path.name for path in out.glob(f".nll-*/{passed}-*")}


def test_kills_within_a_pass_recompute_no_finished_block(command, tmp_path):
    """The results are bit-identical to those of an evaluation that was never killed."""
    out, whole = tmp_path / "out", tmp_path / "uninterrupted"
    for passed, number in KILLS:
        before = blocks_of(out, passed)
        killed = KilledAt(number, Keeping(f"{passed}-"))
        assert run_trial(trials.command, [*command, str(out)], disk=killed) == -signal.SIGKILL
        assert len(blocks_of(out, passed) - before) == number - 1
        assert not (out / "summary.json").exists()
    finished = blocks_of(out, "selection") | blocks_of(out, "whole")
    assert len(finished) > 6
    again = KilledAt(1, Keeping(finished))
    assert run_trial(trials.command, [*command, str(out)], disk=again) == 0, "a finished block was computed again"
    assert run_trial(trials.command, [*command, str(whole)]) == 0
    assert results_of(out) == results_of(whole)
    assert_no_leftovers(out)
    assert not list(out.glob(".nll-*"))
