"""F2, F4, F5, G1 to G3: hostile shards, names, text and ids are refused or come back as they were."""

from __future__ import annotations

import os
import random
import shutil
import struct

import numpy as np
import pytest
import torch

from tests.faults import trials
from tests.faults.conftest import run_trial
from tttkit import files
from tttkit._rust import TokenSplit
from tttkit.data import WindowSampler, open_split, prepare_dataset
from tttkit.errors import DataError, TttkitError, UsageError
from tttkit.models import load_model


@pytest.fixture(scope="module")
def shard(tiny_data):
    return tiny_data / "train-00000.tok"


def fuzz_shards(shard, tmp_path, count: int) -> int:
    """Open damaged shards; returns how many opened all the same. Whatever comes is an error of ours, never a crash."""
    generator, whole = random.Random(0), shard.read_bytes()
    path, num_opened = tmp_path / "x.tok", 0
    for _ in range(count):
        data = bytearray(whole[: generator.choice((40, 64, 65, 4096))])
        for _ in range(generator.randrange(1, 4)):
            if generator.random() < 0.5:
                data[generator.randrange(min(64, len(data)))] = generator.randrange(256)
            else:  # a whole field of the header, with a hostile value
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


def test_f2_fuzzed_shards(shard, tmp_path):
    assert fuzz_shards(shard, tmp_path, 1000) == 0


@pytest.mark.faults
def test_f2_20000_fuzzed_shards(shard, tmp_path):
    assert fuzz_shards(shard, tmp_path, 20_000) == 0


def test_f4_a_replaced_or_deleted_shard_stays_what_it_was(tiny_data, tmp_path):
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


def test_f4_a_truncated_shard_is_an_error_with_pread(tiny_data, tmp_path):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    split = open_split(data, "train", io="pread")
    os.truncate(data / "train-00000.tok", 64)
    for start in range(0, 1000, 100):
        with pytest.raises((TttkitError, OSError)):
            split.tokens(start, start + 100)


NAMES = [
    "..", ".", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "", "x" * 129, "x" * 4096, "ä", "a b", "a\nb", "~",
    "$HOME", "*", "a:b", "\u202ea", "-\u2010", "a;b",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_f5_names_that_lead_anywhere_are_no_names(name):
    assert not files.is_safe_name(name)


@pytest.mark.parametrize("name", [*NAMES, "pipe", "directory", "absent.safetensors"])
def test_f5_an_index_opens_nothing_but_plain_files_beside_it(tmp_path, name):
    from tttkit.models import ModelConfig, build_model, save_model

    save_model(build_model(ModelConfig(vocab_size=9, hidden_size=8, num_attention_heads=2)), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    files.write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"x": name}})
    with pytest.raises(DataError):
        load_model(tmp_path)


def test_f5_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(DataError, match="no plain file"):
        load_model(tmp_path)
    with pytest.raises(DataError, match="no plain file"):
        files.read_json(files.Path("/dev/zero"))


def _prepare(tmp_path, content: bytes, **options):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.txt").write_bytes(b"plain words for the tokenizer " * 20)
    (tmp_path / "t" / "b.txt").write_bytes(content)
    return prepare_dataset(
        [str(tmp_path / "t")], tmp_path / "data", tokenizer="bpe:280", validation_fraction=0.5, **options
    )


@pytest.mark.parametrize("missing", [1, 2, 3])
@pytest.mark.parametrize("where", ["start", "middle", "end"])
def test_g1_bad_utf8_names_the_file(tmp_path, missing, where):
    torn = "😀".encode()[:-missing]
    content = {"start": torn + b" text", "middle": b"text " + torn + b" text", "end": b"text " + torn}[where]
    with pytest.raises(DataError, match=r"b\.txt"):
        _prepare(tmp_path, content)


@pytest.mark.parametrize("content", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x88\x80\x80\x80"])
def test_g1_surrogates_and_long_forms_are_bad_utf8(tmp_path, content):
    with pytest.raises(DataError, match=r"b\.txt"):
        _prepare(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [b"\0 nul \0", "\ufeffmark".encode(), b"a\r\nb\r\n", b"no newline", "\u2028\u0085 x".encode(), b"\t\v\f x"],
)
def test_g1_odd_text_comes_back(tmp_path, content):
    from tokenizers import Tokenizer

    _prepare(tmp_path, content)
    decoder = Tokenizer.from_file(str(tmp_path / "data" / "tokenizer.json"))
    found = []
    for name in ("train", "validation"):
        ids = open_split(tmp_path / "data", name).tokens(0, open_split(tmp_path / "data", name).num_tokens)
        found.append(decoder.decode(ids[:-1].tolist(), skip_special_tokens=False))
    text = content.decode()
    assert any(item in (text, text.removeprefix("\ufeff")) for item in found)


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b" \t\n"])
def test_g1_nothing_to_read_is_said(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError) as error:
        prepare_dataset([str(tmp_path / "a.txt")], tmp_path / "data", tokenizer="bpe:280")
    assert error.value.exit_code == 65


def test_g2_a_tokenizer_that_is_not_the_models_is_refused_before_the_first_step(tiny_values, tmp_path):
    values = tiny_values(model={"vocab_size": 299})
    assert run_trial(trials.train, values, str(tmp_path / "run"), log=str(tmp_path / "log")) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("token", [300, 301, 65_535])
def test_g2_an_id_beyond_the_vocabulary_is_found(tiny_data, tmp_path, token):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    path = data / "train-00000.tok"
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, 64 + 2 * 100, token)
    path.write_bytes(content)
    with pytest.raises(DataError):
        open_split(data, "train").verify()


def test_g3_the_order_resumes_at_every_step(tiny_data):
    """The windows from step i on are those of a sampler that never ran before: position is one integer."""
    split = open_split(tiny_data, "train")
    whole = WindowSampler(split, window=16, batch_size=4, seed=3)
    steps = [whole.batch(step) for step in range(200)]
    for start in range(0, 200, 7):
        again = WindowSampler(split, window=16, batch_size=4, seed=3)
        for step in range(start, min(start + 3, 200)):
            assert torch.equal(again.batch(step), steps[step])


def test_g3_an_unknown_path_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError):
        open_split(tmp_path / "absent", "train")
