"""Data sets from hostile hands: the documented error each time. `rust/tests/hostile.rs` does the same in Rust."""

from __future__ import annotations

import copy
import json
import os
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tttkit._rust import TokenSplit
from tttkit.data import load_manifest, prepare_dataset
from tttkit.errors import DataError, ShardError

HEADER = struct.Struct("<8sHBBIQQQI")
BODY = bytes(range(256)) * 2
BORDERS = (0, 1, 2, 255, 299, 300, 1 << 16, (1 << 32) - 1, 1 << 32, 1 << 63, (1 << 64) - 1)


def _shifted(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
    return byte


SHIFTED = [_shifted(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """Castagnoli's, by a table of bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ SHIFTED[crc & 0xFF ^ byte]
    return crc ^ 0xFFFFFFFF


def hostile_header(generator: random.Random) -> bytes:
    """Fields of a sound header, a few of them spoiled, mostly with a right checksum; sometimes mere bytes."""
    if generator.random() < 0.1:
        return generator.randbytes(64)
    documents = generator.randrange(40)
    tokens = (len(BODY) - 8 * documents) // 2
    fields = [b"TTTSHARD", 1, 2, 0, 300, tokens, documents, 64 + 2 * tokens, generator.randrange(300)]
    widths = [8, 2, 1, 1, 4, 8, 8, 8, 4]
    for _ in range(generator.randrange(3)):
        place = generator.randrange(1, len(fields))
        fields[place] = generator.choice([*BORDERS, generator.getrandbits(64)]) % (1 << 8 * widths[place])
    raw = HEADER.pack(*fields)
    checksum = crc32c(raw + bytes(20)) if generator.random() < 0.9 else generator.getrandbits(32)
    return raw + struct.pack("<I", checksum) + bytes(16)


def test_twenty_thousand_hostile_headers(tmp_path):
    generator = random.Random(0)
    path = tmp_path / "train-00000.tok"
    path.write_bytes(bytes(64) + BODY)
    taken, messages = 0, set()
    with path.open("r+b", buffering=0) as file:
        for number in range(20_000):
            os.pwrite(file.fileno(), hostile_header(generator), 0)
            try:
                split = TokenSplit([path], mapped=bool(number % 2))
                split.tokens(0, split.num_tokens)
                taken += 1
                split.document_ends()
            except ShardError as error:
                messages.add(str(error))
    assert all(message.startswith(str(path)) for message in messages)
    assert 1_000 < taken < 15_000


@pytest.fixture(scope="module")
def data(tmp_path_factory, tokenizer_json):
    """A data set of two shards, and its manifest as it was."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "text.txt").write_text("the cat sat on the mat\n" * 50)
    prepare_dataset(
        [str(root / "text.txt")], root / "data", str(tokenizer_json), validation_fraction=0, shard_tokens=99
    )
    return root / "data", json.loads((root / "data" / "manifest.json").read_text())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_subnormal=False, allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def places(value, before=()):
    """The way to every value inside a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*before, key)
        yield from places(inner, (*before, key))


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_manifest_is_refused_or_the_same(data, draw):
    path, manifest = data
    changed = copy.deepcopy(manifest)
    *way, last = draw.draw(st.sampled_from([place for place in places(manifest) if place[0] != "request"]))
    target = changed
    for key in way:
        target = target[key]
    target[last] = draw.draw(VALUES)
    (path / "manifest.json").write_text(json.dumps(changed))
    try:
        loaded = load_manifest(path)
    except DataError:
        return
    assert loaded.fingerprint == manifest["fingerprint"]


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode) | VALUES.map(json.dumps).map(str.encode))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_no_manifest(data, content):
    path, _ = data
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(DataError):
        load_manifest(path)
