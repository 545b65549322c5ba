from __future__ import annotations

import json
import os
import random

import pytest

from tttkit.data import load_manifest, open_split, prepare_dataset
from tttkit.errors import DataError, ShardError, UsageError


@pytest.fixture
def data(tmp_path, tokenizer_json, text_files):
    prepare_dataset([str(path) for path in text_files], tmp_path / "data", str(tokenizer_json), validation_fraction=0)
    return tmp_path / "data"


def shard_of(data):
    return data / "train-00000.tok"


def change_manifest(data, **values):
    path = data / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_every_range_of_tokens_is_read(data, io):
    split = open_split(data, "train", io=io)
    everything = split.tokens(0, split.num_tokens).tolist()
    assert split.tokens(5, 5).tolist() == []
    assert split.tokens(3, 40).tolist() == everything[3:40]
    assert [everything[end - 1] for end in split.document_ends.tolist()] == [split.eos_id] * split.num_documents
    for start, stop in ((-1, 2), (3, 2), (0, split.num_tokens + 1)):
        with pytest.raises(ValueError, match="are not in a split of"):
            split.tokens(start, stop)


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def grow(path):
    path.write_bytes(path.read_bytes() + b"\0")


def empty(path):
    path.write_bytes(b"")


def wrong_magic(path):
    path.write_bytes(b"X" + path.read_bytes()[1:])


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def directory(path):
    path.unlink()
    path.mkdir()


def missing(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, grow, empty, wrong_magic, pipe, directory, missing])
@pytest.mark.parametrize("io", ["mmap", "pread"])
def test_damaged_shards_are_named(data, damage, io):
    damage(shard_of(data))
    with pytest.raises((ShardError, OSError), match=r"train-00000\.tok"):
        open_split(data, "train", io=io)


def test_verify_detects_every_damaged_byte(data):
    whole = shard_of(data).read_bytes()
    generator = random.Random(0)
    for position in [*range(64), *generator.sample(range(64, len(whole)), 60)]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << generator.randrange(8)
        shard_of(data).write_bytes(damaged)
        with pytest.raises(ShardError, match=r"train-00000\.tok"):
            open_split(data, "train").verify()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema_version": 99}, "schema version 99, this tttkit reads up to 2"),
        ({"eos_id": 320}, "eos_id 320 is not below vocab_size 320"),
        ({"vocab_size": "many"}, "damaged: vocab_size"),
        ({"surprise": 1}, "damaged: surprise"),
        ({"fingerprint": "0" * 64}, "its fingerprint does not match"),
    ],
)
def test_unusable_manifests_are_refused(data, values, message):
    change_manifest(data, **values)
    with pytest.raises(DataError, match=message):
        open_split(data, "train")


@pytest.mark.parametrize("name", ["../train-00000.tok", "/etc/passwd", "a/b", "..", "", "a\nb", "x" * 200])
def test_shard_names_that_lead_out_of_the_directory_are_refused(data, name):
    manifest = json.loads((data / "manifest.json").read_text())
    manifest["splits"]["train"]["shards"][0]["name"] = name
    (data / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="unsafe shard name"):
        load_manifest(data)


def test_paths_that_are_not_a_data_set_are_refused(data, tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        open_split(tmp_path / "nowhere", "train")
    with pytest.raises(UsageError, match="is a file"):
        open_split(shard_of(data), "train")
    with pytest.raises(DataError, match="has no split `test`") as caught:
        open_split(data, "test")
    assert caught.value.hint == "it has train"
    (data / "manifest.json").unlink()
    with pytest.raises(DataError, match="is not a complete data set"):
        open_split(data, "train")


def test_a_shard_of_another_data_set_is_refused(data, tmp_path, tokenizer_json, text_files):
    prepare_dataset([str(text_files[0])], tmp_path / "other", str(tokenizer_json), validation_fraction=0)
    shard_of(data).write_bytes(shard_of(tmp_path / "other").read_bytes())
    with pytest.raises(ShardError, match="is not the shard that the manifest lists"):
        open_split(data, "train")
