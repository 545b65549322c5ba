"""Promise: hostile shards and names are refused, and nothing outside a data set or model directory is opened.

Shard headers are fuzzed; shards are replaced, deleted, and truncated under a reader; names in manifests lead elsewhere.
See docs/reliability.md.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import struct

import numpy as np
import pytest

from tests.faults import trials
from tests.faults.conftest import run_trial
from tttkit._rust import TokenSplit
from tttkit.data import open_split
from tttkit.errors import DataError
from tttkit.models import load_model
from tttkit.storage import commits, files


@pytest.fixture(scope="module")
def shard(tiny_data):
    return tiny_data / "train-00000.tok"


def fuzz_shards(shard, tmp_path, count: int) -> int:
    """Open damaged shards and return how many could be opened. Each error must be one of ours; nothing may crash."""
    generator, whole = random.Random(0), shard.read_bytes()
    path, num_opened = tmp_path / "x.tok", 0
    for _ in range(count):
        data = bytearray(whole[: generator.choice((40, 64, 65, 4096))])
        for _ in range(generator.randrange(1, 4)):
            if generator.random() < 0.5:
                data[generator.randrange(min(64, len(data)))] = generator.randrange(256)
            else:  # a complete field of the header gets a hostile value
                offset, width = generator.choice(
                    ((8, "<H"), (12, "<I"), (16, "<Q"), (24, "<Q"), (32, "<Q"), (40, "<I"))
                )
                if offset + struct.calcsize(width) <= len(data):
                    value = generator.choice((0, 1, 2**16 - 1, 2**32 - 1, 2**63, 2**64 - 1))
                    struct.pack_into(width, data, offset, value % 2 ** (8 * struct.calcsize(width)))
        path.write_bytes(data)
        try:
            TokenSplit([path], True)
            num_opened += 1
        except (DataError, ValueError, OSError):
            pass
    return num_opened


def test_1000_fuzzed_shards_are_refused(shard, tmp_path):
    assert fuzz_shards(shard, tmp_path, 1000) == 0


@pytest.mark.faults
def test_20000_fuzzed_shards_are_refused(shard, tmp_path):
    assert fuzz_shards(shard, tmp_path, 20_000) == 0


def test_a_replaced_or_deleted_shard_still_reads_as_before(tiny_data, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    split = open_split(data, "train")
    before = split.tokens(0, 1000).copy()
    other = tmp_path / "other"
    other.write_bytes(b"\0" * 10)
    for _ in range(10):
        other.write_bytes(b"\0" * 10)
        other.replace(data / "train-00000.tok")
        assert np.array_equal(split.tokens(0, 1000), before)
    (data / "train-00000.tok").unlink()
    assert np.array_equal(split.tokens(0, 1000), before)
    with pytest.raises(DataError):
        open_split(data, "train")


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 66, 100, 500, 1000, 2000, 2049, 4096, 8192, 16_384])
def test_a_truncated_shard_is_an_error_with_pread(tiny_data, tmp_path, size):
    """Tokens before the cut read as before; reading any other token, even half a token id, is an error."""
    data = shutil.copytree(tiny_data, tmp_path / "data")
    split = open_split(data, "train", io="pread")
    before = split.tokens(0, split.num_tokens).copy()
    os.truncate(data / "train-00000.tok", size)
    whole = max(0, size - 64) // 2
    assert np.array_equal(split.tokens(0, whole), before[:whole])
    for start, stop in ((whole, whole + 1), (0, whole + 1), (whole + 1, whole + 100), (0, split.num_tokens)):
        with pytest.raises(DataError, match=r"train-00000\.tok: the file is shorter than its header says"):
            split.tokens(start, stop)
    with pytest.raises(DataError):
        open_split(data, "train")


NAMES = [
    "..", ".", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "", "x" * 129, "x" * 4096, "ä", "a b", "a\nb", "~",
    "$HOME", "*", "a:b", "\u202ea", "-\u2010", "a;b",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_unsafe_names_are_refused(name):
    assert not files.is_safe_name(name)


@pytest.mark.parametrize("name", [*NAMES, "pipe", "directory", "absent.safetensors"])
def test_an_index_opens_only_plain_files_in_its_directory(tmp_path, name):
    from tttkit.models import ModelConfig, build_model, save_model

    save_model(build_model(ModelConfig(vocab_size=9, hidden_size=8, num_attention_heads=2)), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)  # without a writer, opening the pipe would block forever
    (tmp_path / "directory").mkdir()
    files.write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"x": name}})
    with pytest.raises(DataError) as error:
        load_model(tmp_path)
    os.close(writer)
    assert ("is not a regular file" in str(error.value)) == (name in ("pipe", "directory"))


def test_pipes_and_devices_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(DataError, match="not a plain file"):
        load_model(tmp_path)
    with pytest.raises(DataError, match="not a plain file"):
        files.read_json(files.Path("/dev/zero"))


@pytest.mark.parametrize("size", [0, 64, 4096, 8192, 12_288])
def test_a_truncated_shard_kills_a_reader_that_maps_it(tiny_data, tmp_path, size):
    """A documented limit: truncating a file kills the processes that have mapped it."""
    data = shutil.copytree(tiny_data, tmp_path / "data")
    assert run_trial(trials.read_cut_shard, str(data), size) == -signal.SIGBUS
    with pytest.raises(DataError):
        open_split(data, "train")


@pytest.mark.parametrize("name", [*NAMES, "train-00000.tok/", "./train-00000.tok", "pipe", "device"])
def test_a_data_manifest_opens_only_shards_in_its_directory(tiny_data, tmp_path, name):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    os.mkfifo(data / "pipe")
    (data / "device").symlink_to("/dev/zero")
    manifest = files.read_json(data / "manifest.json")
    manifest["splits"]["train"]["shards"][0]["name"] = name
    files.write_json(data / "manifest.json", manifest)
    loaded = None
    with pytest.raises((DataError, OSError)):
        loaded = open_split(data, "train")
    assert loaded is None


@pytest.mark.parametrize("name", ["train-00000.tok", "validation-00000.tok", "manifest.json", "tokenizer.json"])
@pytest.mark.parametrize("where", ["outside", "inside", "nowhere"])
def test_no_file_of_a_data_set_may_be_a_link(tiny_data, tmp_path, name, where):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    target = data / "other" if where == "inside" else tmp_path / "elsewhere"
    (data / name).rename(target)
    (data / name).symlink_to(target)
    if where == "nowhere":
        target.unlink()
    split = name.partition("-")[0] if name.endswith(".tok") else "train"
    with pytest.raises(DataError, match=rf"{re.escape(name)} is a symbolic link") as error:
        open_split(data, split)
    assert error.value.exit_code == 65
    if name.endswith(".tok"):
        with pytest.raises(DataError, match="a symbolic link, but a shard must be a regular file"):
            TokenSplit([data / name], True)


def test_a_shard_that_becomes_a_link_fails_verification(tiny_data, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    split = open_split(data, "train")
    (data / "train-00000.tok").rename(tmp_path / "elsewhere")
    (data / "train-00000.tok").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="a symbolic link"):
        split.verify()


def test_the_directory_of_a_data_set_may_be_a_link(tiny_data, tmp_path):
    (tmp_path / "link").symlink_to(tiny_data)
    split = open_split(tmp_path / "link", "train")
    split.verify()
    assert split.num_tokens == open_split(tiny_data, "train").num_tokens


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_of_files_names_nothing_outside_its_directory(tmp_path, name):
    with commits.commit_directory(tmp_path / "model") as directory:
        files.write_new(directory / "a", [b"a"])
    entries = {name: {"size": 1, "sha256": files.sha256_of(tmp_path / "model" / "a")}}
    (tmp_path / "model" / commits.MANIFEST_NAME).write_text(commits._manifest_text(entries))
    with pytest.raises(DataError):
        commits.verify_directory(tmp_path / "model")


def test_a_manifest_that_lists_a_file_twice_is_refused(tmp_path):
    """JSON parsers use one of the two entries, but they disagree on which one."""
    with commits.commit_directory(tmp_path / "model") as directory:
        files.write_new(directory / "a", [b"a"])
    manifest = tmp_path / "model" / commits.MANIFEST_NAME
    entry = manifest.read_text().partition('"files": {')[2].rpartition("\n  }\n}")[0]
    manifest.write_text(manifest.read_text().replace(entry, f"{entry},{entry}"))
    assert manifest.read_text().count('"a": {') == 2
    with pytest.raises(DataError, match="has changed since it was written"):
        commits.verify_directory(tmp_path / "model")


@pytest.mark.parametrize(
    "text", ['{"files": {}, "files": {"a": 1}}', '{"files": {"a": 1, "a": 2}}', "[" * 10_000, "1e999"]
)
def test_odd_json_is_not_a_manifest(tmp_path, text):
    (tmp_path / commits.MANIFEST_NAME).write_text(text)
    with pytest.raises(DataError):
        commits.verify_directory(tmp_path)
