"""A4 for the long passes of `tttkit eval checkpoint`: killed within one, it goes on from what is finished."""

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
"""Four blocks of the pass over the whole split, and of that over 4,096 windows."""
KILLS = [("selection", 3), ("whole", 3), ("whole", 2)]
"""Before which block that is still to be kept, in turn."""


class Keeping:
    """Calls that give a block its name: any block of a pass, or those of a set."""

    def __init__(self, names: str | set[str]) -> None:
        self.names = names

    def __call__(self, name: str, arguments: tuple) -> bool:
        target = arguments[-1].name if name == "rename" else ""
        return target.startswith(self.names) if isinstance(self.names, str) else target in self.names


@pytest.fixture
def command(reference, tmp_path):
    """The command but for the place of its results: a text of some hundred thousand tokens, two short sequences."""
    generator = random.Random(0)
    text, data = tmp_path / "text.txt", tmp_path / "data"
    text.write_text(" ".join(generator.choice(WORDS) for _ in range(200_000)))
    prepare_dataset([str(text)], data, str(reference.best_model / "tokenizer.json"), validation=[str(text)])
    assert open_split(data, "validation").num_tokens > LEAST_TOKENS
    options = ["--data", str(data), "--max-length", "64", "--num-sequences", "2"]
    return ["eval", "checkpoint", str(reference.best_model), *options, "--out"]


def kept(out, passed: str) -> set[str]:
    return {path.name for path in out.glob(f".nll-*/{passed}-*")}


def test_a4_killed_within_its_passes(command, tmp_path):
    """No finished block is computed a second time, and the results are an uninterrupted evaluation's, bit for bit."""
    out, whole = tmp_path / "out", tmp_path / "uninterrupted"
    for passed, number in KILLS:
        before = kept(out, passed)
        killed = KilledAt(number, Keeping(f"{passed}-"))
        assert run_trial(trials.command, [*command, str(out)], disk=killed) == -signal.SIGKILL
        assert len(kept(out, passed) - before) == number - 1
        assert not (out / "summary.json").exists()
    finished = kept(out, "selection") | kept(out, "whole")
    assert len(finished) > 6
    again = KilledAt(1, Keeping(finished))
    assert run_trial(trials.command, [*command, str(out)], disk=again) == 0, "a finished block was made again"
    assert run_trial(trials.command, [*command, str(whole)]) == 0
    assert results_of(out) == results_of(whole)
    assert_no_leftovers(out)
    assert not list(out.glob(".nll-*"))
