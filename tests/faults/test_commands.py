"""Promise: `tttkit eval` and `tttkit data prepare` stop on a signal without unfinished results, and continue later.

`tttkit doctor --fix` removes what killed commands leave. See docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.cli.conftest import start, tttkit
from tests.conftest import WORDS
from tests.faults import trials
from tests.faults.conftest import assert_no_leftovers, run_trial
from tests.faults.disks import KilledAt, Touching
from tests.faults.test_phases import results_of
from tttkit.data import prepare_dataset
from tttkit.run.directory import RunDirectory
from tttkit.run.signals import StopRequestedError
from tttkit.storage.files import sha256_of

STOPPING = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("number", STOPPING)
def test_a_stopped_evaluation_continues_with_the_same_results(reference, tmp_path, number):
    """A signal at the third block keeps the earlier blocks; the results equal those of an undisturbed evaluation."""
    command = ["eval", "checkpoint", str(reference.best_model), "--max-length", "64", "--num-sequences", "70", "--out"]
    out = tmp_path / "out"
    stopped = KilledAt(3, Touching("out/.nll-"), number)
    assert run_trial(trials.command, [*command, str(out)], disk=stopped, log=str(tmp_path / "log")) == 75
    said = (tmp_path / "log").read_text().splitlines()
    assert said[-2:] == [
        f"error: stopped by {signal.Signals(number).name}; finished parts are kept",
        "hint: run the same command again: finished parts are not repeated",
    ]
    assert not (out / "summary.json").exists()
    blocks = sorted(out.glob(".nll-*/*"))
    assert blocks
    blocks[0].write_bytes(_with_a_flipped_bit(blocks[0].read_bytes()))  # a damaged block is computed again
    assert_no_leftovers(out)
    assert run_trial(trials.command, [*command, str(out)]) == 0
    assert run_trial(trials.command, [*command, str(tmp_path / "whole")]) == 0
    assert results_of(out) == results_of(tmp_path / "whole")


def _with_a_flipped_bit(data: bytes) -> bytes:
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """12 MB in 12 files."""
    root, generator = tmp_path_factory.mktemp("texts"), random.Random(0)
    line = " ".join(generator.choice(WORDS) for _ in range(2000))
    for index in range(12):
        (root / f"{index:02d}.txt").write_text(f"{index} {line}\n" * (1_000_000 // len(line)))
    return root


def _prepare(texts, out) -> list[str]:
    return ["data", "prepare", str(texts), "--tokenizer", "bpe:300", "--out", str(out)]


@pytest.mark.faults
@pytest.mark.parametrize("number", STOPPING)
def test_a_stopped_preparation_continues_with_the_same_bytes(texts, tmp_path, number):
    """A signal at a random time exits with 75 and says how to continue; nothing that looks like a data set is left."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    began = time.monotonic()
    assert tttkit(*_prepare(texts, whole)).code == 0
    duration, generator, codes = time.monotonic() - began, random.Random(number), set()
    for _ in range(6):
        with start(*_prepare(texts, out), stdout=subprocess.DEVNULL) as process:
            time.sleep(generator.uniform(0.3, 0.5 + duration))
            os.kill(process.pid, number)
            _, err = process.communicate(timeout=60)
        codes.add(process.returncode)
        assert process.returncode in (0, 75, 128 + number, -number), err
        assert "Traceback" not in err
        if process.returncode == 75:
            assert f"stopped by {signal.Signals(number).name}" in err
            assert "run the same command again" in err
        if (out / "manifest.json").exists():  # the preparation ended before the signal came
            assert _digests(out) == _digests(whole)
            shutil.rmtree(out)
        else:
            assert process.returncode != 0
    assert 75 in codes
    assert tttkit(*_prepare(texts, out)).code == 0
    assert _digests(out) == _digests(whole)


def _digests(directory) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in directory.iterdir()}


def test_finished_shards_of_a_stopped_preparation_are_kept(texts, tiny_data, tmp_path):
    def prepare(out, progress=None):
        tokenizer = str(tiny_data / "tokenizer.json")
        return prepare_dataset([str(texts)], out, tokenizer, shard_tokens=1 << 19, progress=progress)

    def stop(prepared):
        if prepared.num_tokens > 3 << 19:
            raise StopRequestedError

    with pytest.raises(StopRequestedError):
        prepare(tmp_path / "out", stop)
    *finished, _last = sorted((tmp_path / "out").glob("train-*.tok"))
    inodes = {path: path.stat().st_ino for path in finished}
    assert inodes
    assert prepare(tmp_path / "out").fingerprint == prepare(tmp_path / "whole").fingerprint
    assert {path: path.stat().st_ino for path in finished} == inodes


LEAVING = {
    "eval": (["eval", "checkpoint", "RUN/best_model", "--max-length", "64", "--num-sequences", "70"], (1, 5, 12)),
    "plot": (["plot", "RUN"], (1, 2)),
    "report": (["report", "RUN"], (1, 2)),
    "convert": (["convert", "RUN/best_model", "RUN/official"], (1, 2, 3, 4)),
}
"""Commands that write into a run, and the renames before which they are killed."""


def _is_rename(name: str, _arguments: tuple) -> bool:
    return name == "rename"


@pytest.mark.parametrize(
    "command",
    [name if name == "convert" else pytest.param(name, marks=pytest.mark.faults) for name in LEAVING],
)
def test_doctor_removes_what_killed_commands_left(reference, tmp_path, command):
    run = RunDirectory(shutil.copytree(reference.path, tmp_path / "run"))
    arguments, numbers = LEAVING[command]
    arguments = [argument.replace("RUN", str(run.path)) for argument in arguments]
    for number in numbers:
        assert run_trial(trials.command, arguments, disk=KilledAt(number, _is_rename)) == -signal.SIGKILL
    left = {path for path in run.path.rglob(".tmp-*") if path.parent.name[:5] != ".tmp-"}
    assert left
    examinations = json.loads(tttkit("doctor", run.path, "--fix", "--json").out)
    repaired = {item["message"].partition(": removed")[0] for item in examinations if item["level"] == "fixed"}
    assert repaired >= {str(path) for path in left}
    assert_no_leftovers(run.path)
    assert run_trial(trials.command, arguments) == 0, "the command still works afterwards"
    levels = {item["level"] for item in json.loads(tttkit("doctor", run.path, "--json").out)}
    assert levels == {"ok"}
