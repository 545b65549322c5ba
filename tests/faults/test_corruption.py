"""Promise: damaged files are detected and named, the run resumes from an older training checkpoint or stops with an
error, and nothing in a file is ever executed.

Bits are flipped, files are truncated, extended, deleted, exchanged, and replaced by pipes, links, and pickles. If every
training checkpoint is damaged, the run does not silently start again. See docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import tttkit
from tests.faults import trials
from tests.faults.conftest import assert_equal_runs, run_trial
from tttkit.errors import CheckpointError, DataError
from tttkit.run.directory import RunDirectory
from tttkit.storage import commits, files
from tttkit.train.resume import checkpoint


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    model, optimizer = trials.small_model()
    for step in (1, 2):
        checkpoint.save_checkpoint(run, step, model, optimizer, {"run_id": "ours"})
    return run


def corrupt(run: RunDirectory, generator: random.Random, count: int) -> None:
    """Damage a random file of the newest checkpoint; the older one must load, and the damaged one must be named."""
    newest = run.states / "step_2"
    whole = {path: path.read_bytes() for path in newest.iterdir()}
    for _ in range(count):
        path = generator.choice(sorted(whole))
        path.write_bytes(_damaged(whole[path], generator))
        state = checkpoint.load_newest_checkpoint(run)
        assert state.step == 1
        assert state.skipped[0].startswith("step_2.corrupt-0: ")
        (run.states / "step_2.corrupt-0").rename(newest)
        path.write_bytes(whole[path])


def _damaged(data: bytes, generator: random.Random) -> bytes:
    kind = generator.randrange(3)
    if kind == 0:
        place = generator.randrange(len(data))
        return data[:place] + bytes([data[place] ^ 1 << generator.randrange(8)]) + data[place + 1 :]
    if kind == 1:
        return data[: generator.randrange(len(data))]
    return data + generator.randbytes(generator.randrange(1, 100))


def test_200_corruptions_are_detected(run):
    corrupt(run, random.Random(1), 200)


@pytest.mark.faults
def test_2000_corruptions_are_detected(run):
    corrupt(run, random.Random(2), 2000)


def test_a_mutant_without_verification_is_caught(run, monkeypatch):
    monkeypatch.setattr(commits, "verify_directory", lambda path: {"": 0})
    with pytest.raises(AssertionError):
        corrupt(run, random.Random(1), 200)


def _swap_files(states):
    left, right = (states / f"step_{step}" / "tensors.safetensors" for step in (1, 2))
    data = left.read_bytes(), right.read_bytes()
    assert data[0] == data[1], "both hold the same tensors here"
    right.write_bytes(data[0][:-1] + b"\1")


def _manifest_of_another(states):
    shutil.copyfile(states / "step_1" / "MANIFEST.json", states / "step_2" / "MANIFEST.json")


def _permute(states):
    newest = states / "step_2"
    (newest / "state.json").rename(newest / "x")
    (newest / "tensors.safetensors").rename(newest / "state.json")
    (newest / "x").rename(newest / "tensors.safetensors")


def _renamed_old(states):
    shutil.rmtree(states / "step_2")
    shutil.copytree(states / "step_1", states / "step_2")


def _of_another_run(states):
    model, optimizer = trials.small_model()
    checkpoint.save_checkpoint(RunDirectory(states.parent), 2, model, optimizer, {"run_id": "theirs"})


def _emptied(states):
    for path in (states / "step_2").iterdir():
        path.unlink()


def _newer_version(states):
    shutil.rmtree(states / "step_2")
    with commits.commit_directory(states / "step_2") as directory:
        files.write_json(directory / "state.json", {"schema_version": 99, "step": 2})


def _link(states):
    newest = states / "step_2"
    (newest / "state.json").rename(states / "elsewhere")
    (newest / "state.json").symlink_to(states / "elsewhere")


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda states, name=name: (states / "step_2" / name).unlink() for name in
          ("state.json", "tensors.safetensors", "MANIFEST.json")),
        _swap_files, _manifest_of_another, _permute, _renamed_old, _of_another_run, _emptied, _newer_version, _link,
    ],
)  # fmt: skip
def test_missing_and_exchanged_files_are_detected(run, damage):
    damage(run.states)
    state = checkpoint.load_newest_checkpoint(run, run_id="ours")
    assert state.step == 1
    assert state.skipped[0].startswith("step_2.corrupt-0: ")
    assert (run.states / "step_2.corrupt-0").is_dir()


def test_a_run_resumed_from_an_older_checkpoint_ends_with_the_same_bits(values, reference, tmp_path):
    run = RunDirectory(shutil.copytree(reference.path, tmp_path / "run"))
    _reopen(run)
    (run.states / "step_12" / "tensors.safetensors").write_bytes(b"")
    assert run_trial(trials.train, values, str(run.path), log=str(tmp_path / "log")) == 0
    assert "skipped damaged training checkpoint step_12.corrupt-0" in (tmp_path / "log").read_text()
    assert_equal_runs(run, reference)


def _reopen(run: RunDirectory) -> None:
    metadata = run.read_metadata()
    del metadata["result"]
    files.write_json(run.metadata, metadata)


FILES = [
    "MANIFEST.json", "state.json", "tensors.safetensors",
]  # fmt: skip
DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_to_every_file_is_detected(run, name, damage):
    DAMAGES[damage](run.states / "step_2" / name)
    state = checkpoint.load_newest_checkpoint(run, run_id="ours")
    assert state.step == 1
    assert state.skipped[0].startswith("step_2.corrupt-0: ")


@pytest.mark.faults
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["metadata.json", "metrics.jsonl", "all_summaries.json", "checkpoint_001/summary.json", "heartbeat.json"]
)
def test_no_damage_to_other_files_is_reported_as_a_bug(values, reference, tmp_path, name, damage):
    """The run resumes, or an error says what is wrong: no traceback, and no start from step 0."""
    run = RunDirectory(shutil.copytree(reference.path, tmp_path / "run"))
    _reopen(run)
    DAMAGES[damage](run.path / name)
    code = run_trial(trials.command, ["resume", str(run.path)], log=str(tmp_path / "log"))
    said = (tmp_path / "log").read_text()
    assert code in (0, 2, 65), said
    assert "Traceback" not in said
    assert (run.states / "step_12").is_dir()
    assert "started at step 0" not in run.training_log.read_text().partition("finished at")[2]


def _cut(name):
    def damage(states):
        for path in states.glob(f"step_*/{name}"):
            path.write_bytes(path.read_bytes()[:-3])

    return damage


def _each_in_its_own_way(states):
    older, newer = sorted(states.iterdir())
    (newer / "MANIFEST.json").unlink()
    (older / "tensors.safetensors").write_bytes(b"")


def _rewritten(**changes):
    """Return a damage that makes only the content of state.json wrong; files and manifest stay complete and valid."""

    def damage(states):
        for path in list(states.iterdir()):
            values = files.read_json(path / "state.json")
            tensors = (path / "tensors.safetensors").read_bytes()
            with commits.commit_directory(path) as directory:
                files.write_new(directory / "tensors.safetensors", [tensors])
                files.write_json(directory / "state.json", {**values, **changes})

    return damage


@pytest.mark.parametrize(
    "damage", [*map(_cut, FILES), _each_in_its_own_way, _rewritten(run_id="theirs"), _rewritten(schema_version=99)]
)
def test_a_run_without_a_valid_checkpoint_does_not_start_again(reference, tmp_path, damage):
    run = RunDirectory(shutil.copytree(reference.path, tmp_path / "run"))
    _reopen(run)
    damage(run.states)
    before = run.metrics.read_bytes()
    assert before
    for _ in range(2):
        result = tttkit("resume", run.path)
        assert (result.code, "no valid training checkpoint" in result.error) == (4, True)
    assert sorted(path.name for path in run.states.iterdir()) == ["step_11.corrupt-0", "step_12.corrupt-0"]
    assert run.metrics.read_bytes() == before


class Evil:
    """An object whose pickle runs a command when it is read."""

    def __init__(self, canary) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def _pickle(canary) -> bytes:
    """Return a pickle of the oldest protocol, which every reader of pickles executes."""
    return b"cos\nsystem\n(S'touch %s'\ntR." % str(canary).encode()


def _zipped(canary) -> bytes:
    """Return the bytes that torch.save writes."""
    buffer = io.BytesIO()
    trials.torch.save({"model.norm.weight": Evil(canary)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("make", [_pickle, _zipped])
def test_the_pickles_below_are_harmful(tmp_path, make):
    """A careless reader executes them, so the tests below can fail."""
    (tmp_path / "file").write_bytes(make(tmp_path / "canary"))
    with contextlib.suppress(Exception):  # torch reads the old format in its own old way
        trials.torch.load(tmp_path / "file", weights_only=False)
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["state.json", "tensors.safetensors", "MANIFEST.json"])
@pytest.mark.parametrize("make", [_pickle, _zipped])
def test_a_pickle_in_a_training_checkpoint_is_never_executed(run, tmp_path, name, make):
    canary = tmp_path / "canary"
    for state in run.states.iterdir():
        (state / name).write_bytes(make(canary))
    with pytest.raises(CheckpointError):
        checkpoint.load_newest_checkpoint(run)
    assert not canary.exists()


SLOTS = {
    "RUN/metadata.json": (["resume", "RUN"], 65),
    "RUN/all_summaries.json": (["report", "RUN"], 65),
    "RUN/metrics.jsonl": (["status", "RUN"], 0),
    "RUN/heartbeat.json": (["status", "RUN"], 0),
    "RUN/checkpoint_003/chunk_nll.safetensors": (["compare", "RUN", "RUN"], 65),
    "RUN/checkpoint_003/chunk_eval.json": (["plot", "RUN"], 65),
    "RUN/final_model/config.json": (["generate", "RUN/final_model", "--prompt", "x"], 65),
    "RUN/final_model/model.safetensors": (["generate", "RUN/final_model", "--prompt", "x"], 65),
    "RUN/final_model/tokenizer.json": (["generate", "RUN/final_model", "--prompt", "x"], 65),
    "RUN/final_model/pytorch_model.bin": (["convert", "RUN/final_model/pytorch_model.bin", "OUT"], 65),
    "DATA/manifest.json": (["data", "verify", "DATA"], 65),
    "DATA/tokenizer.json": (["data", "inspect", "DATA"], 65),
    "DATA/train-00000.tok": (["data", "verify", "DATA"], 65),
}
"""Every other file that is read, the command that reads it, and its exit code."""


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("make", [_pickle, _zipped])
def test_a_pickle_in_any_other_file_is_never_executed(reference, tiny_data, tmp_path, slot, make):
    places = {"RUN": tmp_path / "run", "DATA": tmp_path / "data", "OUT": tmp_path / "out"}
    shutil.copytree(reference.path, places["RUN"])
    shutil.copytree(tiny_data, places["DATA"])

    def placed(text):
        first, slash, rest = text.partition("/")
        return f"{places[first]}{slash}{rest}" if first in places else text

    Path(placed(slot)).write_bytes(make(tmp_path / "canary"))
    arguments, code = SLOTS[slot]
    result = tttkit(*map(placed, arguments))
    assert not (tmp_path / "canary").exists()
    assert result.code == code, result.err
    assert code == 0 or Path(slot).name in result.error


def test_a_pickle_with_a_valid_manifest_is_not_a_training_checkpoint(run, tmp_path):
    """Only safetensors and JSON are read, even if the manifest matches."""
    canary = tmp_path / "canary"
    for step, name in ((3, "state.json"), (4, "tensors.safetensors")):
        with commits.commit_directory(run.states / f"step_{step}") as directory:
            for file in ("state.json", "tensors.safetensors"):
                files.write_new(directory / file, [_pickle(canary)])
            if name != "state.json":
                (directory / "state.json").unlink()
                files.write_json(directory / "state.json", {"schema_version": 1, "step": step})
    assert checkpoint.load_newest_checkpoint(run).step == 2
    assert not canary.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"])
def test_a_pickle_beside_a_model_is_not_opened(reference, tmp_path, name):
    from tttkit.models import load_model

    model = shutil.copytree(reference.best_model, tmp_path / "model")
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(_pickle(tmp_path / "canary"))
    with pytest.raises(DataError, match=r"missing file: .*model\.safetensors"):
        load_model(model)
    assert not (tmp_path / "canary").exists()
