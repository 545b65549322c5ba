"""Training checkpoints in shards: every rank writes its own, any number of ranks or one process reads them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.distributed.ranks import codes_of, start_ranks, train
from tests.distributed.test_lost_ranks import LOST, assert_same
from tttkit.config.run import OptimizerConfig
from tttkit.distributed.group import joined
from tttkit.distributed.shard_files import read_shards, shapes_in
from tttkit.distributed.sharded import is_sharded, shard, whole
from tttkit.errors import DataError, DiskFullError
from tttkit.models import ModelConfig, build_model
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import training_checkpoints
from tttkit.run.world import world_of
from tttkit.storage import commits, files, filesystem
from tttkit.train.optim import build_optimizer
from tttkit.train.resume.checkpoint import (
    load_newest_checkpoint,
    read_checkpoint,
    restore_checkpoint,
    tensors_of,
    verify_checkpoint,
)
from tttkit.train.resume.sharded_checkpoint import save_sharded_checkpoint

# three heads of five values: no number of ranks divides these sizes
TINY = {"vocab_size": 61, "hidden_size": 30, "intermediate_size": 47, "num_hidden_layers": 1, "num_attention_heads": 3}
MANIFEST = "MANIFEST.json"


class FullDisk(filesystem.FileSystem):
    """A disk with no space for shards: the first `times` files."""

    def __init__(self, times: int, *, first_step: int = 0) -> None:
        self._times, self._first_step = times, first_step

    def create(self, path: Path) -> int:
        is_later = int(files.final_name(str(path.parent)).rpartition("_")[2] or 0) >= self._first_step
        if path.name.startswith("shard-") and is_later and self._times:
            self._times -= 1
            self.fail()
        return super().create(path)

    def fail(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Killed(FullDisk):
    """A process that is killed when it writes its shards."""

    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def model_and_optimizer(world=None):
    torch.manual_seed(1)
    model = build_model(ModelConfig(**TINY))
    if world is not None and world.is_distributed:
        shard(model, world)
    return model, build_optimizer(model, OptimizerConfig())


def whole_of(model, optimizer):
    return {name: whole(tensor).contiguous() for name, tensor in tensors_of(model, optimizer).items()}


def save_once(out: str) -> None:
    """Save steps 1 and 2 on every rank, and all tensors of step 2 in one file; then fail to save step 3."""
    run = RunDirectory(Path(out))
    with joined(world_of(), timeout=20) as ranks:
        model, optimizer = model_and_optimizer(ranks.world)
        for step in (1, 2):
            model(torch.arange(32).view(2, 16)).sum().backward()
            optimizer.step()
            rest = {"row": torch.tensor([step])}
            save_sharded_checkpoint(run, step, model, optimizer, {"run_id": "ours"}, rest, ranks=ranks)
        tensors = whole_of(model, optimizer)
        if ranks.world.is_first:
            save_file(tensors, Path(out) / "expected.safetensors")
        else:
            filesystem.current = FullDisk(1)
        with pytest.raises(
            DiskFullError, match=r"^disk full while" if ranks.world.rank else "^rank 1: disk full while"
        ):
            save_sharded_checkpoint(run, 3, model, optimizer, {}, {}, ranks=ranks)


def restore_in_shards(out: str) -> None:
    """Restore step 2 on every rank, and compare each tensor with that of the ranks that saved it."""
    with joined(world_of(), timeout=20) as ranks:
        model, optimizer = model_and_optimizer(ranks.world)
        path = Path(out) / "state" / "step_2"
        loaded = read_checkpoint(path, 2, in_shards=True, is_verified=not ranks.world.is_first)
        assert not any(name.startswith(("model.", "optimizer.exp")) for name in loaded.tensors)
        restore_checkpoint(loaded, model, optimizer)
        assert all(is_sharded(optimizer.state[each]["exp_avg"]) for each in model.parameters())
        expected, tensors = load_file(Path(out) / "expected.safetensors"), whole_of(model, optimizer)
        assert expected.keys() == tensors.keys()
        assert all(torch.equal(expected[name], tensors[name]) for name in expected)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a run directory in which two ranks have saved two steps and failed to save a third."""
    out = tmp_path_factory.mktemp("sharded") / "run"
    out.mkdir()
    ranks = start_ranks(2, save_once, str(out), log=out / "log")
    assert codes_of(ranks) == [0, 0], (out / "log").read_text()
    return out


@pytest.fixture
def run(saved, tmp_path):
    return RunDirectory(shutil.copytree(saved, tmp_path / "run"))


def test_every_rank_writes_its_shards_and_nothing_is_pickled(saved):
    path = saved / "state" / "step_2"
    names = {"shard-00000-of-00002.safetensors", "shard-00001-of-00002.safetensors", "tensors.safetensors"}
    assert {entry.name for entry in path.iterdir()} == {*names, "state.json", MANIFEST}
    parts = [load_file(path / name) for name in sorted(names)]
    expected = load_file(saved / "expected.safetensors")
    for name, tensor in expected.items():
        shards = [part[name] for part in parts if name in part]
        assert sum(each.numel() for each in shards) == tensor.numel(), name
        assert tensor.ndim == 0 or len(shards) == 2
    assert files.read_json(path / "state.json")["schema_version"] == 4


def test_a_disk_that_is_full_for_one_rank_leaves_the_checkpoints_before_and_nothing_else(saved):
    assert sorted(entry.name for entry in (saved / "state").iterdir()) == ["step_1", "step_2"]


def test_one_process_reads_the_shards_of_two_ranks(run):
    loaded = load_newest_checkpoint(run, run_id="ours")
    model, optimizer = model_and_optimizer()
    restore_checkpoint(loaded, model, optimizer)
    expected, tensors = load_file(run.path / "expected.safetensors"), whole_of(model, optimizer)
    assert all(torch.equal(expected[name], tensors[name]) for name in expected)
    assert (loaded.step, loaded.tensors["row"].tolist(), loaded.unread) == (2, [2], {})


def test_four_ranks_read_the_shards_of_two(saved, tmp_path):
    ranks = start_ranks(4, restore_in_shards, str(saved), log=tmp_path / "log")
    assert codes_of(ranks) == [0] * 4, (tmp_path / "log").read_text()


@pytest.mark.parametrize("in_shards", [False, True])
@pytest.mark.parametrize("damage", ["missing", "flipped", "truncated"])
def test_damaged_shards_are_set_aside_and_the_checkpoint_before_is_loaded(run, damage, in_shards):
    file = run.states / "step_2" / "shard-00001-of-00002.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    {
        "missing": file.unlink, "flipped": lambda: file.write_bytes(data),
        "truncated": lambda: file.write_bytes(data[:-5]),
    }[damage]()  # fmt: skip
    loaded = load_newest_checkpoint(run, run_id="ours", in_shards=in_shards)
    (line,) = loaded.skipped
    assert loaded.step == 1
    assert line.startswith("step_2.corrupt-0: ")
    assert "shard-00001-of-00002.safetensors" in line
    assert "\n" not in line


@pytest.mark.parametrize("in_shards", [False, True])
def test_a_checkpoint_with_right_digests_but_without_a_part_is_refused(run, in_shards):
    """For example one that someone put together by hand."""
    path = run.states / "step_2"
    kept = ("state.json", "tensors.safetensors", "shard-00001-of-00002.safetensors")
    content = {name: (path / name).read_bytes() for name in kept}
    with commits.commit_directory(path) as directory:
        for name, data in content.items():
            files.write_new(directory / name, [data])
    assert verify_checkpoint(path, 2)
    loaded = load_newest_checkpoint(run, in_shards=in_shards)
    assert loaded.step == 1
    assert re.search(r"has \d+ of the \d+ elements of (model|optimizer)\.", loaded.skipped[0])


def test_a_header_that_is_not_as_it_should_be_is_one_line(run):
    path = run.states / "step_2" / "shard-00000-of-00002.safetensors"
    save_file({"model.x": torch.ones(3)}, path, metadata={"DCP_SHARDING_INFO": '{"model.x": {"saved_offsets": "?"}}'})
    with pytest.raises(DataError, match="cannot read the shards in"):
        shapes_in(path.parent)
    with pytest.raises(DataError, match="cannot read the shards in"):
        read_shards(path.parent, {"model.missing": torch.ones(3)})


@pytest.fixture
def values(tiny_values):
    return tiny_values(
        train={
            "max_steps": 12, "global_batch": 8, "parallel": "fsdp", "initial_state": "contiguous", "save_every": 2,
            "rank_timeout": 20.0,
        },
        evaluation={"num_checkpoints": 2}, early_stopping={"enabled": False},
    )  # fmt: skip


def train_on(disk: type[FullDisk], values, out: str) -> None:
    if world_of().rank == 1:
        filesystem.current = disk(2, first_step=4)
    train(values, out)


def test_a_rank_that_is_killed_or_has_no_disk_space_while_it_saves_costs_no_bit(values, tmp_path):
    path, log = tmp_path / "run", tmp_path / "log"
    ranks = start_ranks(2, train_on, Killed, values, str(path), log=log)
    assert codes_of(ranks) == [LOST, -signal.SIGKILL], log.read_text()
    saved = [step for step, _ in training_checkpoints(RunDirectory(path))]
    assert saved
    assert max(saved) < 4
    assert not list(RunDirectory(path).states.glob(".tmp-*"))
    ranks = start_ranks(2, train_on, FullDisk, values, str(path), log=log)
    assert codes_of(ranks) == [0, 0], log.read_text()
    text = RunDirectory(path).training_log.read_text()
    assert "training checkpoint of step 4 not saved: rank 1: disk full while writing" in text
    assert "disk space is available again" in text
    assert not list(RunDirectory(path).states.glob(".tmp-*"))
    whole_run = start_ranks(2, train, values, str(tmp_path / "whole"), log=log)
    assert codes_of(whole_run) == [0, 0], log.read_text()
    assert_same(path, tmp_path / "whole", log)
