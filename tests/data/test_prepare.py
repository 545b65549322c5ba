from __future__ import annotations

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from tttkit.data import load_manifest, open_split, prepare_dataset
from tttkit.data.manifest import fingerprint
from tttkit.data.output import MARKER_NAME
from tttkit.errors import DataError, DiskFullError, UsageError

from .conftest import TEXTS, is_held_out


def digests(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of every file except the manifest, which names the sources."""
    files = (path for path in directory.iterdir() if path.name != "manifest.json")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@given(
    documents=st.lists(st.text(min_size=1, max_size=60).filter(lambda text: text.strip()), min_size=1, max_size=12),
    shard_tokens=st.integers(1, 50),
    threads=st.integers(1, 3),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_stream_is_every_document_followed_by_one_end_of_text_token(
    tmp_path_factory, tokenizer_json, documents, shard_tokens, threads
):
    root = tmp_path_factory.mktemp("pack")
    sources = []
    for index, text in enumerate(documents):
        sources.append(str(root / f"{index:03d}.txt"))
        Path(sources[-1]).write_bytes(text.encode())
    manifest = prepare_dataset(
        sources, root / "out", str(tokenizer_json), validation_fraction=0.0, threads=threads, shard_tokens=shard_tokens
    )
    tokenizer = Tokenizer.from_file(str(tokenizer_json))
    pieces = [
        [*tokenizer.encode(text.removeprefix("\ufeff"), add_special_tokens=False).ids, manifest.eos_id]
        for text in documents
    ]
    split = open_split(root / "out", "train")
    assert split.tokens(0, split.num_tokens).tolist() == [id_ for piece in pieces for id_ in piece]
    assert split.document_ends.tolist() == np.cumsum([len(piece) for piece in pieces]).tolist()
    assert all(shard.num_tokens <= shard_tokens for shard in manifest.splits["train"].shards)
    assert split.num_bytes == sum(len(text.removeprefix("\ufeff").encode()) for text in documents)
    split.verify()


def test_bytes_do_not_depend_on_threads(tmp_path, tokenizer_json, text_files):
    sources = [str(path) for path in text_files] * 5
    for threads in (1, 2, 3):
        prepare_dataset(sources, tmp_path / str(threads), str(tokenizer_json), threads=threads, shard_tokens=64)
    assert digests(tmp_path / "1") == digests(tmp_path / "2") == digests(tmp_path / "3")


def test_a_second_call_keeps_the_data_set_and_another_request_is_refused(tmp_path, tokenizer_json, text_files):
    sources, out = [str(path) for path in text_files] * 4, tmp_path / "out"
    first = prepare_dataset(sources, out, str(tokenizer_json))
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert prepare_dataset(sources, out, str(tokenizer_json)) == first
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == times
    with pytest.raises(UsageError, match="already holds another data set"):
        prepare_dataset(sources[:2], out, str(tokenizer_json), validation_fraction=0.5)


def test_sources_that_were_only_touched_are_the_same_and_other_text_is_not(tmp_path, tokenizer_json, text_files):
    """The content decides, not the times of the files."""
    sources, out = [str(path) for path in text_files] * 4, tmp_path / "out"
    first = prepare_dataset(sources, out, str(tokenizer_json))
    os.utime(text_files[0], ns=(1, 1))
    kept = prepare_dataset(sources, out, str(tokenizer_json))
    assert kept.fingerprint == first.fingerprint
    assert kept.request != first.request
    assert load_manifest(out) == kept
    length = text_files[0].stat().st_size
    text_files[0].write_text("x" * length)
    with pytest.raises(UsageError, match="already holds another data set"):
        prepare_dataset(sources, out, str(tokenizer_json))
    assert load_manifest(out) == kept
    assert not list(tmp_path.glob(".out*"))


@given(num_documents=st.integers(2, 400), fraction=st.floats(0.001, 0.9))
@settings(max_examples=15, deadline=None)
def test_the_validation_split_has_the_rounded_share_of_documents(
    tmp_path_factory, tokenizer_json, num_documents, fraction
):
    root, share = tmp_path_factory.mktemp("share"), int(np.floor(num_documents * fraction + 0.5))
    (root / "lines.txt").write_text("line\n" * num_documents)
    assume(0 < share < num_documents)
    manifest = prepare_dataset(
        [str(root / "lines.txt")], root / "out", str(tokenizer_json), validation_fraction=fraction, documents="line"
    )
    assert manifest.splits["validation"].num_documents == share
    assert share == sum(is_held_out(index, fraction) for index in range(num_documents))


def test_the_error_about_a_fraction_without_documents_names_the_smallest_that_works(
    tmp_path, tokenizer_json, text_files
):
    sources = [str(path) for path in text_files]
    with pytest.raises(DataError, match="chooses none of 3 documents") as caught:
        prepare_dataset(sources, tmp_path / "out", str(tokenizer_json), validation_fraction=0.01)
    smallest = float(caught.value.hint.split("is ")[1].split(";")[0])
    assert not (tmp_path / "out").exists()
    manifest = prepare_dataset(sources, tmp_path / "out", str(tokenizer_json), validation_fraction=smallest)
    assert manifest.splits["validation"].num_documents == 1


def test_the_end_of_a_single_text_is_held_out(tmp_path, tokenizer_json):
    text = "".join(f"line {number} of one text\n" for number in range(200))
    (tmp_path / "input.txt").write_text(text)
    (tmp_path / "input.txt.gz").write_bytes(gzip.compress(text.encode()))
    digests_of = []
    for name in ("input.txt", "input.txt.gz"):
        out = tmp_path / f"out-{name}"
        manifest = prepare_dataset([str(tmp_path / name)], out, str(tokenizer_json), validation_fraction=0.1)
        assert text.encode()[manifest.cut_at - 1 : manifest.cut_at] == b"\n"
        assert abs(len(text) - manifest.cut_at - len(text) / 10) < 30
        assert manifest.splits["train"].num_bytes == manifest.cut_at
        assert manifest.splits["validation"].num_bytes == len(text) - manifest.cut_at
        digests_of.append(digests(out))
    assert digests_of[0] == digests_of[1]


def test_the_tokenizer_of_a_single_text_never_sees_its_held_out_end(tmp_path):
    (tmp_path / "input.txt").write_text("aaaa bbbb\n" * 90 + "xyzxyz\n" * 10)
    prepare_dataset([str(tmp_path / "input.txt")], tmp_path / "out", "bpe:300", validation_fraction=0.08)
    assert "xyz" not in Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).get_vocab()


@pytest.mark.parametrize(("name", "rule"), [("one.jsonl", "file"), ("one.txt", "line"), ("one.txt", "file")])
def test_one_document_that_cannot_be_cut_is_refused_with_a_hint(tmp_path, tokenizer_json, name, rule):
    (tmp_path / name).write_text('{"text": "a"}\n' if name.endswith("jsonl") else "a")
    with pytest.raises(DataError, match="one document") as caught:
        prepare_dataset([str(tmp_path / name)], tmp_path / "out", str(tokenizer_json), documents=rule)
    assert "--validation" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_changed_tokenizer_file_is_another_data_set(tmp_path, tokenizer_json, text_files):
    file, out = tmp_path / "tokenizer.json", tmp_path / "out"
    file.write_bytes(tokenizer_json.read_bytes())
    arguments = [str(path) for path in text_files] * 4, out, str(file)
    first = prepare_dataset(*arguments)
    assert prepare_dataset(*arguments) == first
    content = json.loads(file.read_text())
    content["added_tokens"][0]["special"] = False
    file.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="already holds another data set"):
        prepare_dataset(*arguments)


def test_special_text_is_encoded_as_asked_and_the_choice_is_part_of_the_fingerprint(tmp_path, tokenizer_json):
    (tmp_path / "text.txt").write_text("one<|endoftext|>two\n\nthree\n")
    made = {
        choice: prepare_dataset(
            [str(tmp_path / "text.txt")], tmp_path / choice, str(tokenizer_json),
            validation_fraction=0, documents="blank-line", special_in_text=choice,
        )
        for choice in ("encode", "split")
    }  # fmt: skip
    ends = {}
    for choice, manifest in made.items():
        split = open_split(tmp_path / choice, "train")
        ends[choice] = int((split.tokens(0, split.num_tokens) == manifest.eos_id).sum())
        assert (load_manifest(tmp_path / choice).special_in_text, split.num_documents) == (choice, 2)
    assert ends == {"encode": 3, "split": 2}
    assert "special_in_text" not in made["encode"].request, "older data sets are still kept"
    assert fingerprint("0", {}, "split") != fingerprint("0", {}, "encode") == fingerprint("0", {})
    with pytest.raises(UsageError, match="special_in_text must be encode or split, got `drop`"):
        prepare_dataset(["x"], tmp_path / "x", str(tokenizer_json), special_in_text="drop")


def test_validation_sources_replace_the_fraction(tmp_path, tokenizer_json, text_files):
    manifest = prepare_dataset(
        [str(text_files[0])], tmp_path / "out", str(tokenizer_json), validation=[str(path) for path in text_files[1:]]
    )
    assert manifest.splits["train"].num_documents == 1
    assert manifest.splits["validation"].num_bytes == sum(len(text.encode()) for text in TEXTS[1:])
    assert manifest.splits["validation"].num_words == sum(len(text.split()) for text in TEXTS[1:])


def test_a_killed_preparation_is_not_a_data_set_and_the_next_call_completes_it(tmp_path, tokenizer_json):
    source = tmp_path / "big.txt"
    source.write_text("".join(TEXTS) * 30_000)
    arguments = [str(source)], str(tmp_path / "killed"), str(tokenizer_json)
    options = {"documents": "line", "shard_tokens": 100_000}
    script = f"from tttkit.data import prepare_dataset; prepare_dataset(*{arguments!r}, **{options!r})"
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("killed/train-*.tok")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the process ended before it could be killed"
    with pytest.raises(DataError, match="is not a complete data set"):
        load_manifest(tmp_path / "killed")
    prepare_dataset(*arguments, **options)
    prepare_dataset(arguments[0], tmp_path / "whole", arguments[2], **options)
    assert digests(tmp_path / "killed") == digests(tmp_path / "whole")
    assert not (tmp_path / "killed" / MARKER_NAME).exists()


def test_a_directory_with_other_files_is_never_touched(tmp_path, tokenizer_json, text_files):
    """With the tokenizer's directory as --out, its tokenizer.json must survive."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "tokenizer.json").write_bytes(tokenizer_json.read_bytes())
    with pytest.raises(UsageError, match=r"is not empty and holds no data set \(it has tokenizer.json\)"):
        prepare_dataset([str(text_files[0])], home, str(home / "tokenizer.json"), validation_fraction=0)
    assert (home / "tokenizer.json").read_bytes() == tokenizer_json.read_bytes()
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        prepare_dataset([str(text_files[0])], file, str(tokenizer_json), validation_fraction=0)
    assert file.read_text() == "mine"


def test_full_disk_leaves_nothing_half_written(tmp_path, tokenizer_json):
    """A limit of the operating system stands in for the full disk: no file may grow beyond 64 KiB."""
    source = tmp_path / "big.txt"
    source.write_text("".join(TEXTS) * 3_000)
    script = (
        "import resource, signal, sys\n"
        "from tttkit.data import prepare_dataset\n"
        "from tttkit.errors import DiskFullError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    prepare_dataset(sys.argv[1:2], *sys.argv[2:], documents='line')\n"
        "except DiskFullError as error:\n"
        "    sys.exit(error.exit_code)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, source, tmp_path / "out", tokenizer_json],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == DiskFullError.exit_code, result.stderr
    assert not (tmp_path / "out").exists()


def test_small_vocabularies_are_uint16_and_large_ones_uint32(tmp_path, text_files):
    vocab = {f"w{index}": index for index in range(70_000)} | {"<|endoftext|>": 70_000, "the": 70_001, "[UNK]": 70_002}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "large.json"))
    manifest = prepare_dataset(
        [str(text_files[0])], tmp_path / "out", str(tmp_path / "large.json"), validation_fraction=0
    )
    split = open_split(tmp_path / "out", "train")
    assert manifest.dtype == "uint32"
    assert split.tokens(0, 3).dtype == np.uint32
    assert {70_000, 70_001} <= set(split.tokens(0, split.num_tokens).tolist())


@pytest.mark.parametrize("kind", [str, Path, lambda path: [path], lambda path: iter([str(path)])])
def test_one_source_may_be_a_string_or_a_path(tmp_path, tokenizer_json, text_files, kind):
    """A string was once read letter by letter, and the first letter of an absolute path is the root of the disk."""
    folder = Path(text_files[0]).parent
    manifest = prepare_dataset(kind(folder), tmp_path / "out", str(tokenizer_json), validation=kind(folder))
    assert manifest.splits["train"].num_documents == manifest.splits["validation"].num_documents > 0


def test_no_source_a_misspelt_choice_and_numbers_out_of_range_are_errors(tmp_path, tokenizer_json, text_files):
    with pytest.raises(UsageError, match="no source given"):
        prepare_dataset([], tmp_path / "out", str(tokenizer_json))
    with pytest.raises(UsageError, match="bad_utf8 must be strict, replace, skip, got 'ignore'"):
        prepare_dataset(text_files, tmp_path / "out", str(tokenizer_json), bad_utf8="ignore")
    for field in ("threads", "shard_tokens"):
        for value in (0, -1, 10**18):
            with pytest.raises(UsageError, match=f"{field} must be in 1 … "):
                prepare_dataset(text_files, tmp_path / "out", str(tokenizer_json), **{field: value})
    assert not (tmp_path / "out").exists()
