"""Hostile data sets raise the documented errors. `rust/tests/hostile.rs` has the same tests in Rust.

`TTTKIT_SLOW_TESTS=1` reads 20,000 spoiled manifests instead of 2,000.
"""

from __future__ import annotations

import copy
import json
import os
import random
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tttkit._rust import TokenSplit
from tttkit.data import load_manifest, prepare_dataset
from tttkit.errors import DataError, ShardError

SLOW = bool(os.environ.get("TTTKIT_SLOW_TESTS"))
NUM_MANIFESTS = 20_000 if SLOW else 2_000
MAX_BYTES = 1 << 20
HEADER = struct.Struct("<8sHBBIQQQI")
BODY = bytes(range(256)) * 2
BORDERS = (0, 1, 2, 255, 299, 300, 1 << 16, (1 << 32) - 1, 1 << 32, 1 << 63, (1 << 64) - 1)


def _shifted(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
    return byte


SHIFTED = [_shifted(byte) for byte in range(256)]


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of `data`, by a table."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ SHIFTED[crc & 0xFF ^ byte]
    return crc ^ 0xFFFFFFFF


def hostile_header(generator: random.Random) -> bytes:
    """Return a valid header with up to two spoiled fields, usually with a right checksum; sometimes random bytes."""
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
    accepted, messages = 0, set()
    with path.open("r+b", buffering=0) as file:
        for number in range(20_000):
            os.pwrite(file.fileno(), hostile_header(generator), 0)
            try:
                split = TokenSplit([path], mapped=bool(number % 2))
                split.tokens(0, split.num_tokens)
                accepted += 1
                split.document_ends()
            except ShardError as error:
                messages.add(str(error))
    assert all(message.startswith(str(path)) for message in messages)
    assert 1_000 < accepted < 15_000


@pytest.fixture(scope="module")
def data(tmp_path_factory, tokenizer_json):
    """A data set of several shards, and its unspoiled manifest."""
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
    """Yield the path to every value inside a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*before, key)
        yield from places(inner, (*before, key))


@given(st.data())
@settings(max_examples=150)
def test_a_changed_manifest_is_refused_or_has_the_same_fingerprint(data, draw):
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
@settings(max_examples=100)
def test_random_bytes_are_not_a_manifest(data, content):
    path, _ = data
    (path / "manifest.json").write_bytes(content)
    with pytest.raises(DataError):
        load_manifest(path)


HOSTILE_VALUES = [
    b"null", b"true", b"-1", b"0", b"1.5", b"1e999", b"-0.0", b"NaN", b"-Infinity", b"18446744073709551616",
    b"9" * 4_000, b"9" * 5_000, b"[]", b"{}", b'""', b"[" * 40 + b"]" * 40, b"[" * 3_000 + b"]" * 3_000,
    b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b'"../train-00000.tok"', b'"/etc/passwd"', b'"."', b'".."', b'"a/b"',
    b'"train-00000.tok\\n"', b'"train-00000.tok\\u0000"', b'"\\ud800"', b'"\xff"', b'"' + b"x" * 300 + b'"',
]  # fmt: skip


def spoil_bytes(generator, content):
    """Flip a bit, cut, insert or drop bytes, or change the encoding."""
    kind, place = generator.randrange(6), generator.randrange(len(content))
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + generator.randbytes(generator.randint(1, 4)) + content[place:]
    if kind == 2:
        return content[:place] + content[place + generator.randint(1, 20) :]
    if kind == 3 and generator.random() < 0.2:
        return content.decode(errors="replace").encode(generator.choice(["utf-16", "utf-8-sig", "utf-32"]))
    flipped = bytearray(content)
    flipped[place] ^= 1 << generator.randrange(8)
    return bytes(flipped)


def spoil_values(generator, manifest):
    """Change a value to another type, size or value of the manifest; drop, add or duplicate a key."""
    changed = copy.deepcopy(manifest)
    ways = list(places(changed))
    *way, last = generator.choice(ways)
    target = changed
    for key in way:
        target = target[key]
    kind, value, marker = generator.randrange(5), target[last], "a value to be replaced"
    if kind == 0:
        del target[last]
    elif kind == 1:
        *way, other = generator.choice(ways)
        target[last] = marker
        return json.dumps(changed).encode().replace(json.dumps(marker).encode(), json.dumps(other).encode())
    elif kind == 2 and isinstance(value, int):
        target[last] = value + generator.choice([-1, 1, 1 << 32, 1 << 64])
    elif kind == 3 and isinstance(target, dict):
        key = generator.choice([last, last, "surprise", "__class__", ""])
        twice = f"{json.dumps(key)}: {generator.choice([json.dumps(value), '0', 'null'])}"
        place = generator.choice([("{", f"{{{twice}, "), ("}", f", {twice}}}")])
        return json.dumps(changed).replace(*place, generator.randint(1, 3)).encode()
    else:
        target[last] = marker
    return json.dumps(changed).encode().replace(json.dumps(marker).encode(), generator.choice(HOSTILE_VALUES))


def test_spoiled_manifests_are_refused_or_equal(data):
    """Reads exactly 20,000 manifests in the slow mode, 2,000 otherwise. Each is read as when a data set is opened."""
    directory, manifest = data
    path = directory / "manifest.json"
    sound = json.dumps(manifest, indent=2).encode()
    path.write_bytes(sound)
    expected = load_manifest(directory)
    generator, accepted, refused = random.Random(0), 0, set()
    tracemalloc.start()
    try:
        for _ in range(NUM_MANIFESTS):
            spoiled = spoil_values(generator, manifest) if generator.random() < 0.6 else sound
            for _ in range(generator.randrange(1 if spoiled is sound else 0, 3)):
                spoiled = spoil_bytes(generator, spoiled or b"0")
            path.write_bytes(spoiled)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            try:
                loaded = load_manifest(directory)
            except DataError as error:
                refused.add(str(error).split(": ", 1)[-1][:20])
            else:
                accepted += 1
                assert loaded == expected or b'"checksum"' not in spoiled, spoiled
                assert loaded.fingerprint == expected.fingerprint
            assert tracemalloc.get_traced_memory()[1] - before < MAX_BYTES, spoiled
    finally:
        tracemalloc.stop()
        path.write_bytes(sound)
    assert 10 < accepted < NUM_MANIFESTS / 4
    assert len(refused) > 20
