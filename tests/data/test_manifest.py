"""Writing and reading manifest.json; `test_hostile.py` reads spoiled ones, `test_split.py` opens damaged data sets."""

from __future__ import annotations

import dataclasses
import json

import pytest

from tttkit.data.manifest import (
    Manifest,
    ShardEntry,
    SplitEntry,
    fingerprint,
    load_manifest,
    refuse_link,
    save_manifest,
)
from tttkit.errors import DataError, ShardError

SHARD = ShardEntry(name="train-00000.tok", num_tokens=9, num_documents=2, max_token=7, sha256="a" * 64)
SPLITS = {"train": SplitEntry(shards=[SHARD], num_tokens=9, num_documents=2, num_bytes=30, num_words=6)}


def make_manifest(**values):
    return Manifest(**{
        "schema_version": 1, "tokenizer_sha256": "b" * 64, "vocab_size": 8, "eos_id": 7, "dtype": "uint16",
        "splits": SPLITS, "fingerprint": fingerprint("b" * 64, SPLITS), "request": {"sources": ["a.txt"]}, **values,
    })  # fmt: skip


def test_a_manifest_comes_back_as_it_was_written(tmp_path):
    save_manifest(tmp_path, make_manifest(num_mended=3))
    assert load_manifest(tmp_path) == make_manifest(num_mended=3)
    values = json.loads((tmp_path / "manifest.json").read_text())
    assert set(values) == {field.name for field in dataclasses.fields(Manifest)} | {"checksum"}


def test_a_value_that_no_digest_covers_is_covered_by_the_checksum(tmp_path):
    save_manifest(tmp_path, make_manifest())
    values = json.loads((tmp_path / "manifest.json").read_text())
    values["splits"]["train"]["num_words"] += 1
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(DataError, match="its checksum does not match"):
        load_manifest(tmp_path)
    del values["checksum"]  # older data sets have none
    (tmp_path / "manifest.json").write_text(json.dumps(values))
    assert load_manifest(tmp_path).splits["train"].num_words == 7


def test_the_fingerprint_changes_with_the_tokenizer_and_the_order_of_shards():
    other = dataclasses.replace(SHARD, sha256="c" * 64)
    two = {"train": dataclasses.replace(SPLITS["train"], shards=[SHARD, other])}
    swapped = {"train": dataclasses.replace(SPLITS["train"], shards=[other, SHARD])}
    renamed = {"validation": SPLITS["train"]}
    digests = [fingerprint("b" * 64, splits) for splits in (SPLITS, two, swapped, renamed)]
    assert len({*digests, fingerprint("d" * 64, SPLITS)}) == 5


def test_a_link_in_a_data_directory_is_refused(tmp_path):
    (tmp_path / "elsewhere").touch()
    (tmp_path / "train-00000.tok").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ShardError, match=r"train-00000\.tok is a symbolic link"):
        refuse_link(tmp_path / "train-00000.tok")
    refuse_link(tmp_path / "elsewhere")
