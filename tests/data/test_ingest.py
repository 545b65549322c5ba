"""Rust reads, cuts, encodes and packs by the same rules as Python, and resumes after an interruption."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import random
import sys
import types
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tttkit.data import encode_documents, feeding, open_split
from tttkit.data.output import MARKER_NAME
from tttkit.data.prepare import prepare_dataset
from tttkit.errors import DataError

from .conftest import TEXTS, read

LINES = [
    "", " ", "\t", "\x1c", "\u3000", "word", " two words", " = Title = ", " = = Part = = ", " = = ", " = = = ",
    "é\u2028x", "\ufeffmark", "= Title =", " = Title = x", "last\x85",
]  # fmt: skip
ENDS = ["\n", "\r\n", "\n\n"]


def expected_stream(documents, tokenizer_json, eos_id):
    ids, offsets = encode_documents(documents, tokenizer_json)
    pieces = [[*piece.tolist(), eos_id] for piece in np.split(ids, offsets[1:-1].astype(np.int64))]
    return [id_ for piece in pieces for id_ in piece], np.cumsum([len(piece) for piece in pieces]).tolist()


@given(
    files=st.lists(
        st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(ENDS)), min_size=1, max_size=12),
        min_size=1,
        max_size=4,
    ),
    cut=st.integers(0, 2),
    rule=st.sampled_from(["file", "line", "blank-line", "wikitext"]),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rust_cuts_documents_as_python_does(tmp_path_factory, tokenizer_json, files, cut, rule):
    root = tmp_path_factory.mktemp("rules")
    paths = []
    for index, lines in enumerate(files):
        text = "".join(line + end for line, end in lines)
        paths.append(str(root / f"{index}.txt"))
        Path(paths[-1]).write_bytes(text[: len(text) - cut].encode())
    documents = read(*paths, documents=rule)
    if not documents:
        with pytest.raises(DataError, match="no text in"):
            prepare_dataset(paths, root / "out", str(tokenizer_json), validation_fraction=0, documents=rule)
        return
    manifest = prepare_dataset(paths, root / "out", str(tokenizer_json), validation_fraction=0, documents=rule)
    split = open_split(root / "out", "train")
    stream, ends = expected_stream(documents, tokenizer_json, manifest.eos_id)
    assert split.document_ends.tolist() == ends
    assert split.tokens(0, split.num_tokens).tolist() == stream
    assert split.num_bytes == sum(len(text.encode()) for text in documents)


def awkward_text(num_bytes, seed=0):
    generator = random.Random(seed)
    pieces = [
        *TEXTS,
        "東京は日本の首都である。",
        "x" * 300,
        " " * 40,
        "don't 'll 's",
        "\u3000\u3000",
        "½²٣",
        "<|endoftext|>",
        "!" * 99,
    ]
    text = ""
    while len(text.encode()) < num_bytes:
        text += "".join(generator.choices(pieces, k=2_000))
    return text


@pytest.mark.parametrize("end", ["\n", "\u3000"])
def test_a_document_of_many_blocks_has_the_ids_of_the_whole_text(tmp_path, tokenizer_json, end):
    text = awkward_text(900_000) + end
    (tmp_path / "long.txt").write_bytes(text.encode())
    for threads in (1, 2):
        out = tmp_path / str(threads)
        manifest = prepare_dataset(
            [str(tmp_path / "long.txt")], out, str(tokenizer_json), validation_fraction=0, threads=threads
        )
        split = open_split(out, "train")
        stream, ends = expected_stream([text], tokenizer_json, manifest.eos_id)
        assert split.document_ends.tolist() == ends
        assert split.tokens(0, split.num_tokens).tolist() == stream
        assert split.num_words == len(text.split())


def digests(directory):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("*.tok")}


class _Interrupted(BaseException):
    """Raised in place of the exceptions of Ctrl-C and SIGTERM."""


@pytest.mark.parametrize(("damage", "fraction"), [(False, 0.3), (True, 0)])
def test_an_interrupted_preparation_resumes_from_its_finished_shards(
    tmp_path, tokenizer_json, monkeypatch, damage, fraction
):
    monkeypatch.setattr(feeding, "RUN_BYTES", 1 << 18)
    (tmp_path / "text.txt").write_text("".join(TEXTS) * 6_000)
    arguments = {"documents": "line", "validation_fraction": fraction, "shard_tokens": 70_000}

    def run(out, progress=None):
        source = [str(tmp_path / "text.txt")]
        return prepare_dataset(source, tmp_path / out, str(tokenizer_json), progress=progress, **arguments)

    def interrupt(prepared):
        if prepared.num_bytes > 700_000:
            raise _Interrupted

    with pytest.raises(_Interrupted):
        run("again", interrupt)
    lines = (tmp_path / "again" / MARKER_NAME).read_text().splitlines()[1:]
    whole = [json.loads(line)[0] for line in lines]
    assert len(whole) >= 2, "nothing was finished before the interruption"
    times = {name: (tmp_path / "again" / name).stat().st_mtime_ns for name in whole}
    if damage:
        damaged = tmp_path / "again" / whole[0]
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
    seen = []
    manifest = run("again", seen.append)
    assert seen[-1].num_tokens == sum(split.num_tokens for split in manifest.splits.values())
    assert manifest.splits == run("whole").splits
    assert digests(tmp_path / "again") == digests(tmp_path / "whole")
    assert not (tmp_path / "again" / MARKER_NAME).exists()
    kept = [name for name, time in times.items() if (tmp_path / "again" / name).stat().st_mtime_ns == time]
    assert (kept == whole) if not damage else (whole[0] not in kept)


def test_another_request_starts_clean(tmp_path, tokenizer_json, monkeypatch):
    monkeypatch.setattr(feeding, "RUN_BYTES", 1 << 18)
    (tmp_path / "text.txt").write_text("".join(TEXTS) * 3_000)

    def interrupt(prepared):
        if prepared.num_bytes > 400_000:
            raise _Interrupted

    def run(out, shard_tokens, progress=None):
        return prepare_dataset(
            [str(tmp_path / "text.txt")], tmp_path / out, str(tokenizer_json), validation_fraction=0, documents="line",
            shard_tokens=shard_tokens, progress=progress,
        )  # fmt: skip

    with pytest.raises(_Interrupted):
        run("again", 50_000, interrupt)
    assert run("again", 60_000).splits == run("whole", 60_000).splits


@pytest.mark.parametrize("suffix", ["gz", "xz", "zst", "bz2"])
def test_compressed_sources_are_read_like_their_content(tmp_path, tokenizer_json, suffix):
    def compress(data):
        if suffix == "zst":
            return pyarrow.compress(data, codec="zstd", asbytes=True)
        return {"gz": gzip, "xz": lzma, "bz2": bz2}[suffix].compress(data)

    text, records = "\n".join(TEXTS), "\n".join(json.dumps({"text": text}) for text in TEXTS)
    (tmp_path / f"a.txt.{suffix}").write_bytes(compress(text.encode()))
    (tmp_path / f"b.jsonl.{suffix}").write_bytes(compress(records.encode()))
    assert read(tmp_path) == [text, *TEXTS]
    whole = (tmp_path / f"a.txt.{suffix}").read_bytes()
    (tmp_path / f"a.txt.{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"a\.txt\.{suffix} is damaged"):
        prepare_dataset([str(tmp_path)], tmp_path / "out", str(tokenizer_json))


@pytest.mark.parametrize("rule", ["file", "line", "blank-line", "wikitext"])
def test_text_in_pieces_is_cut_like_a_file(tmp_path, tokenizer_json, monkeypatch, rule):
    monkeypatch.setattr("tttkit.data.text.PIECE_BYTES", 5)
    generator = random.Random(0)
    content = "\ufeff" + "".join(generator.choice(LINES) + generator.choice(ENDS) for _ in range(400))
    (tmp_path / "a.txt").write_bytes(content.encode())
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(content.encode()))
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(content.encode())))
    splits = []
    for source in (str(tmp_path / "a.txt"), str(tmp_path / "a.txt.gz"), "-"):
        out = tmp_path / f"out-{len(splits)}"
        manifest = prepare_dataset([source], out, str(tokenizer_json), documents=rule, validation_fraction=0)
        splits.append(manifest.splits)
        assert manifest.splits["train"].num_documents > (0 if rule == "file" else 5)
    assert splits[0] == splits[1] == splits[2]


def test_a_long_document_of_a_record_has_the_ids_of_the_whole_text(tmp_path, tokenizer_json):
    text = awkward_text(700_000)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": "short"}) + "\n")
    manifest = prepare_dataset(
        [str(tmp_path / "a.jsonl")], tmp_path / "out", str(tokenizer_json), validation_fraction=0
    )
    split = open_split(tmp_path / "out", "train")
    stream, ends = expected_stream([text, "short"], tokenizer_json, manifest.eos_id)
    assert split.document_ends.tolist() == ends
    assert split.tokens(0, split.num_tokens).tolist() == stream


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_documents_of_a_pattern_in_pieces_have_the_ids_of_the_whole_texts(tmp_path, tokenizer_json, suffix):
    documents = [f"CHAPTER {number}\n" + "some words of it \u6771\n" * 40_000 * (number == 2) for number in range(4)]
    lines = "".join(documents).splitlines()
    records = "".join(json.dumps({"text": line}) + "\n" for line in lines)
    source = tmp_path / f"book{suffix}"
    source.write_text("".join(documents) if suffix == ".txt" else records)
    manifest = prepare_dataset(
        [str(source)], tmp_path / "out", str(tokenizer_json), validation_fraction=0, document_pattern="^CHAPTER"
    )
    split = open_split(tmp_path / "out", "train")
    stream, ends = expected_stream(documents, tokenizer_json, manifest.eos_id)
    assert split.tokens(0, split.num_tokens).tolist() == stream
    assert split.document_ends.tolist() == ends


@pytest.mark.parametrize("rule", ["file", "line", "blank-line", "wikitext"])
def test_repaired_text_is_cut_as_valid_text_is(tmp_path, tokenizer_json, rule):
    broken = (b" = One = \nwords \xff here\n\n" + b"more \xe6\x9d words\n" * 30_000) * 2
    (tmp_path / "broken.txt").write_bytes(broken)
    (tmp_path / "valid.txt").write_text(broken.decode(errors="replace"))
    made = []
    for name in ("broken", "valid"):
        manifest = prepare_dataset(
            [str(tmp_path / f"{name}.txt")], tmp_path / name, str(tokenizer_json),
            validation_fraction=0, documents=rule, bad_utf8="replace",
        )  # fmt: skip
        made.append((manifest.fingerprint, manifest.num_mended))
    assert made[0][0] == made[1][0]
    assert [repaired for _, repaired in made] == [1, 0]
