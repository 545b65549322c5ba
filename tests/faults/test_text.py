"""Promise: text is read back or refused by file, line, and byte; token ids fit; every window of an epoch comes once.

Texts are invalid UTF-8, huge, empty, or full of odd characters; token ids are too large; the order of windows is
compared with a permutation. See docs/reliability.md.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.faults import trials
from tests.faults.conftest import LONGEST, run_trial
from tttkit.data import WindowSampler, open_split, prepare_dataset
from tttkit.errors import DataError, UsageError
from tttkit.storage import files


def _prepare(tmp_path, content: bytes, **options):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.txt").write_bytes(b"plain words for the tokenizer " * 20)
    (tmp_path / "t" / "b.txt").write_bytes(content)
    return prepare_dataset(
        [str(tmp_path / "t")], tmp_path / "data", tokenizer="bpe:280", validation_fraction=0.5, **options
    )


@pytest.mark.parametrize("missing", [1, 2, 3])
@pytest.mark.parametrize("where", ["start", "middle", "end"])
def test_invalid_utf8_is_reported_with_file_line_and_byte(tmp_path, missing, where):
    torn = "😀".encode()[:-missing]
    content = {"start": torn + b" text", "middle": b"text\n " + torn + b" text", "end": b"text " + torn}[where]
    place = {"start": "line 1, byte 1", "middle": "line 2, byte 2", "end": "line 1, byte 6"}[where]
    with pytest.raises(DataError, match=rf"b\.txt: invalid UTF-8 in {place} \(0xf0\)"):
        _prepare(tmp_path, content)


@pytest.mark.parametrize("content", [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf8\x88\x80\x80\x80"])
def test_surrogates_and_overlong_forms_are_invalid_utf8(tmp_path, content):
    with pytest.raises(DataError, match=rf"b\.txt: invalid UTF-8 in line 1, byte 1 \(0x{content[0]:02x}\)"):
        _prepare(tmp_path, content)


@pytest.mark.parametrize(
    "content",
    [b"\0 nul \0", "\ufeffmark".encode(), b"a\r\nb\r\n", b"no newline", "\u2028\u0085 x".encode(), b"\t\v\f x"],
)
def test_odd_text_is_read_back(tmp_path, content):
    _prepare(tmp_path, content)
    text = content.decode()
    assert any(item in (text, text.removeprefix("\ufeff")) for item in _texts(tmp_path / "data"))


def _texts(data) -> list[str]:
    """Return the one document of each split."""
    decoder = Tokenizer.from_file(str(data / "tokenizer.json"))
    splits = [open_split(data, name) for name in ("train", "validation")]
    return [
        decoder.decode(split.tokens(0, split.num_tokens)[:-1].tolist(), skip_special_tokens=False) for split in splits
    ]


@pytest.mark.parametrize("place", [0, 1, 2, 3])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc0", b" "])
@pytest.mark.parametrize("how", ["replace", "skip"])
def test_invalid_utf8_can_be_replaced_or_skipped(tmp_path, place, bad, how):
    """A bad byte at any place of a 4-byte character is replaced or skipped, and counted; the text around it stays."""
    character = "😀".encode()
    content = b"before " + character[:place] + bad + character[place + 1 :] + b" after"
    manifest = _prepare(tmp_path, content, bad_utf8=how)
    assert manifest.num_mended == 1
    expected = content.decode(errors="replace") if how == "replace" else None
    assert (expected in _texts(tmp_path / "data")) is (how == "replace")


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["file", "line", "record", "packed"])
def test_a_document_of_64_mb_takes_little_memory(tiny_data, tmp_path, kind):
    text, options = "".join(f"some words of number {index} without an end " * 13 for index in range(64 << 11)), []
    large = tmp_path / {"record": "large.jsonl", "packed": "large.txt.gz"}.get(kind, "large.txt")
    if kind == "record":
        large.write_text(json.dumps({"text": text}) + "\n")
    elif kind == "packed":
        large.write_bytes(gzip.compress(text.encode(), compresslevel=1))
    else:
        large.write_text(text)
        options = ["--documents", kind]
    held_out = tmp_path / "held_out.txt"
    held_out.write_text("a few words " * 100)
    peak = _peak_of_preparing(tiny_data, tmp_path / "out", large, "--validation", held_out, *options)
    assert len(text) > 64 << 20
    assert peak < 300 << 20
    split = open_split(tmp_path / "out", "train")
    assert (split.num_documents, split.num_bytes) == (1, len(text))


@pytest.mark.faults
@pytest.mark.parametrize(("name", "empty"), [("many.txt", "\n"), ("many.jsonl", '{"text": ""}\n')])
def test_a_million_empty_documents_are_ignored(tiny_data, tmp_path, name, empty):
    full = "some words\n" if name.endswith(".txt") else '{"text": "some words"}\n'
    (tmp_path / name).write_text(full * 20 + empty * 1_000_000 + full * 20)
    options = ["--documents", "line"] if name.endswith(".txt") else []
    peak = _peak_of_preparing(tiny_data, tmp_path / "out", tmp_path / name, "--validation-fraction", 0.5, *options)
    assert peak < 300 << 20
    assert sum(open_split(tmp_path / "out", split).num_documents for split in ("train", "validation")) == 40


_MEASURED = """
import sys
from tttkit_cli.app import _run
code = _run(sys.argv[1:])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(peak, file=sys.stderr)
sys.exit(code)
"""


def _peak_of_preparing(tiny_data, out, *arguments) -> int:
    """Return the peak memory of `tttkit data prepare` in its own process."""
    command = ["data", "prepare", *arguments, "--tokenizer", tiny_data / "tokenizer.json", "--out", out]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *(str(part) for part in command)], capture_output=True, text=True,
        timeout=LONGEST, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1]) * 1024


@pytest.mark.parametrize("half", ["d800", "dbff", "dc00", "DFFF"])
@pytest.mark.parametrize("how", ["strict", "replace", "skip"])
def test_half_of_a_surrogate_pair_in_json_is_invalid(tmp_path, half, how):
    """JSON can spell half of a pair. Complete pairs around it are read back as the characters that they stand for."""
    (tmp_path / "a.jsonl").write_text(f'{{"text": "plain words"}}\n{{"text": "\\ud83d\\ude00 a\\u{half}b"}}\n')

    def prepare():
        source = str(tmp_path / "a.jsonl")
        return prepare_dataset([source], tmp_path / "data", "bpe:280", validation_fraction=0.5, bad_utf8=how)

    if how == "strict":
        with pytest.raises(
            DataError, match=rf"a\.jsonl: line 2: \\u{half.lower()} is half of a surrogate pair"
        ) as error:
            prepare()
        assert (error.value.exit_code, (tmp_path / "data").exists()) == (65, False)
    else:
        assert prepare().num_mended == 1
        assert ("😀 a\ufffdb" if how == "replace" else "😀 ab") in _texts(tmp_path / "data")


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '"a', "NaN", "null"])
def test_json_without_text_is_reported_with_its_line(tmp_path, text):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "plain words"}}\n{{"text": {text}}}\n')
    with pytest.raises(DataError, match=r"a\.jsonl: line 2"):
        prepare_dataset([str(tmp_path / "a.jsonl")], tmp_path / "data", "bpe:280", validation_fraction=0.5)


def test_invalid_utf8_in_a_compressed_file_is_reported_too(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\ntwo\xff\n"))
    with pytest.raises(DataError, match=r"a\.txt\.gz: invalid UTF-8 in line 2, byte 4 \(0xff\)"):
        prepare_dataset([str(tmp_path / "a.txt.gz")], tmp_path / "data", "bpe:280", validation_fraction=0.5)


@pytest.mark.parametrize("content", [b"", b"\n\n\n", b" \t\n", b"\xef\xbb\xbf", b"\r\n\r\n"])
@pytest.mark.parametrize("documents", ["line", "blank-line"])
@pytest.mark.parametrize("held_out", [False, True])
def test_a_source_without_text_is_an_error(tiny_data, tmp_path, content, documents, held_out):
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "held_out.txt").write_text("a few words")
    validation = [str(tmp_path / "held_out.txt")] if held_out else None
    tokenizer = str(tiny_data / "tokenizer.json")
    with pytest.raises(DataError, match=r"no text in .*/a\.txt") as error:
        prepare_dataset(
            [str(tmp_path / "a.txt")], tmp_path / "data", tokenizer, documents=documents, validation=validation
        )
    assert error.value.exit_code == 65
    assert not (tmp_path / "data").exists()


def test_a_tokenizer_of_another_model_is_refused_before_the_first_step(tiny_values, tmp_path):
    values = tiny_values(model={"vocab_size": 299})
    assert run_trial(trials.train, values, str(tmp_path / "run"), log=str(tmp_path / "log")) == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("token", [300, 301, 65_535])
def test_a_token_id_beyond_the_vocabulary_is_detected(tiny_data, tmp_path, token):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    _put_token(data, "<H", token)
    with pytest.raises(DataError):
        open_split(data, "train").verify()


def _put_token(data, width: str, token: int) -> None:
    path = data / "train-00000.tok"
    content = bytearray(path.read_bytes())
    struct.pack_into(width, content, 64 + 100 * struct.calcsize(width), token)
    path.write_bytes(content)


def _with_vocabulary(tmp_path, size: int):
    """Prepare data with a tokenizer of `size` tokens, most of which occur in no text."""
    words = {f"w{index}": index for index in range(size - 1)} | {"<|endoftext|>": size - 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "text.txt").write_text(f"w{size - 2} w1 w2\n" * 400)
    source = str(tmp_path / "text.txt")
    return prepare_dataset(
        [source], tmp_path / "data", str(tmp_path / "tokenizer.json"), documents="line", validation_fraction=0.2
    )


@pytest.mark.parametrize(("size", "dtype"), [(65_535, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_the_largest_token_id_fits_its_dtype(tmp_path, size, dtype):
    assert _with_vocabulary(tmp_path, size).dtype == dtype
    split = open_split(tmp_path / "data", "train")
    assert split.tokens(0, 4).tolist() == [size - 2, 1, 2, size - 1]
    split.verify()


@pytest.mark.parametrize("token", [70_000, 2**31, 2**32 - 1])
def test_no_token_id_is_truncated_to_one_that_fits(tmp_path, token):
    _with_vocabulary(tmp_path, 70_000)
    _put_token(tmp_path / "data", "<I", token)
    with pytest.raises(DataError):
        open_split(tmp_path / "data", "train").verify()


@pytest.mark.parametrize("known", [299, 301])
def test_a_vocabulary_that_contradicts_the_shards_ends_before_the_first_step(tiny_data, tiny_values, tmp_path, known):
    data = shutil.copytree(tiny_data, tmp_path / "data")
    manifest = files.read_json(data / "manifest.json")
    files.write_json(data / "manifest.json", {**manifest, "vocab_size": known, "eos_id": 0})
    values = tiny_values(data={"path": str(data)})
    assert run_trial(trials.train, values, str(tmp_path / "run"), log=str(tmp_path / "log")) == 65
    assert not (tmp_path / "run").exists()


def _orders(split, count: int) -> None:
    """Check for random windows, seeds, and epochs that each window comes once, also after resuming at any step."""
    generator = random.Random(count)
    tokens = split.tokens(0, split.num_tokens).astype(np.int64)
    for _ in range(count):
        window, seed, epoch = generator.randrange(40, 4000), generator.getrandbits(64), generator.randrange(1000)
        sampler = WindowSampler(split, window=window, batch_size=1, seed=seed)
        number = sampler.windows_per_epoch
        first = generator.randrange(number)
        again = WindowSampler(split, window=window, batch_size=1, seed=seed)
        resumed = [again.batch(epoch * number + at) for at in range(first, number)]
        rows = [sampler.batch(epoch * number + at) for at in range(number)]
        assert all(torch.equal(left, right) for left, right in zip(rows[first:], resumed, strict=True))
        expected = np.stack([tokens[at * window : at * window + window + 1] for at in range(number)])
        windows = torch.cat(rows).numpy()
        assert np.array_equal(windows[np.lexsort(windows.T)], expected[np.lexsort(expected.T)])


def test_20_orders_are_permutations_that_resume_anywhere(tiny_data):
    _orders(open_split(tiny_data, "train"), 20)


@pytest.mark.faults
def test_1000_orders_are_permutations_that_resume_anywhere(tiny_data):
    _orders(open_split(tiny_data, "train"), 1000)


def test_a_resumed_order_is_the_same_at_every_step(tiny_data):
    split = open_split(tiny_data, "train")
    whole = WindowSampler(split, window=16, batch_size=4, seed=3)
    steps = [whole.batch(step) for step in range(500)]
    for start in range(500):
        again = WindowSampler(split, window=16, batch_size=4, seed=3)
        assert torch.equal(again.batch(start), steps[start])


def test_an_unknown_path_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError):
        open_split(tmp_path / "absent", "train")
