"""`tttkit data`: prepare, inspect, verify, and the errors of bad input."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, run_process, tttkit
from tttkit.data.job import Prepared
from tttkit_cli.views.data import PrepareView


@pytest.fixture
def text(tmp_path) -> Path:
    """Three files of text, one document each."""
    folder = tmp_path / "text"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.txt").write_text(f"document {index} of a small corpus\n" * 40)
    return folder


@pytest.fixture
def prepare(tmp_path, tiny_data):
    """`data prepare` with the tokenizer of the tiny data set, into `data`."""
    return lambda *arguments: tttkit(
        "data", "prepare", *arguments, "--tokenizer", tiny_data / "tokenizer.json", "--out", tmp_path / "data"
    )


@pytest.fixture
def data(tiny_data, tmp_path) -> Path:
    """A copy of the tiny data set, for tests that damage it."""
    return Path(shutil.copytree(tiny_data, tmp_path / "copy"))


def change_manifest(data, **values):
    manifest = json.loads((data / "manifest.json").read_text())
    (data / "manifest.json").write_text(json.dumps({**manifest, **values}))


def test_prepare_then_inspect_then_verify(prepare, text, tmp_path):
    result = prepare(text, "--validation-fraction", "0.34")
    assert result.code == 0
    assert "next: tttkit train --data" in result.err
    assert "train" in result.out
    assert "validation" in result.out
    assert "small corpus" in tttkit("data", "inspect", tmp_path / "data").out
    assert "verified" in tttkit("data", "verify", tmp_path / "data").out


def test_prepare_again_keeps_the_data_set(prepare, text):
    assert prepare(text).code == 65  # 0.05 of three documents are none
    assert prepare(text, "--validation-fraction", "0.34").code == 0
    again = prepare(text, "--validation-fraction", "0.34")
    assert again.code == 0
    assert "kept" in again.err
    assert "already holds another data set" in prepare(text, "--validation-fraction", "0.5").error


def test_json_output_of_prepare_inspect_and_verify(prepare, text, tmp_path):
    made = json.loads(prepare(text, "--validation", text / "0.txt", "--json").out)
    assert made["splits"]["validation"]["num_documents"] == 1
    looked = json.loads(tttkit("data", "inspect", tmp_path / "data", "--samples", 2, "--json").out)
    assert looked["fingerprint"] == made["fingerprint"]
    assert len(looked["samples"]) == 2
    assert looked["statistics"]["num_documents"] == 3
    checked = json.loads(tttkit("data", "verify", tmp_path / "data", "--json").out)
    assert checked["splits"] == ["train", "validation"]


def test_progress_as_json_lines(prepare, text, monkeypatch):
    """Only JSON goes to stdout; text for people goes to stderr."""
    monkeypatch.setattr("tttkit_cli.views.data._EVENT_SECONDS", 0.0)
    monkeypatch.setattr("tttkit_cli.views.data._LINE_SECONDS", 0.0)
    result = prepare(text, "--validation-fraction", "0.34", "--json")
    *events, end = map(json.loads, result.out.splitlines())
    assert {event["event"] for event in events} == {"progress"}
    last = events[-1]
    splits = end["splits"].values()
    for name in ("num_bytes", "num_documents", "num_tokens"):
        assert last[name] == sum(split[name] for split in splits)
    assert (end["event"], last["total_bytes"], last["eta_seconds"]) == ("end", last["num_bytes"], 0)
    assert last["megabytes_per_second"] > 0
    assert "MB/s" in result.err
    assert "3 documents, 0 s left" in result.err


def test_inspect_shows_repeated_documents_and_those_in_both_splits(prepare, text, tmp_path):
    for copy in ("3", "4"):
        shutil.copy(text / "0.txt", text / f"{copy}.txt")
    assert prepare(text, "--validation", text / "1.txt").code == 0
    shown = tttkit("data", "inspect", tmp_path / "data", "--window", 16).out
    assert "2 (40.00%) equal an earlier one, one occurs 3 times" in shown
    assert "also in validation  1 documents" in shown
    statistics = json.loads(tttkit("data", "inspect", tmp_path / "data", "--split", "validation", "--json").out)
    figures = statistics["statistics"]
    assert (figures["num_repeated"], figures["num_also_in"]) == (0, {"train": 1})


def test_stdin_is_a_source(tiny_data, tmp_path):
    result = subprocess.run(
        [*COMMAND, "data", "prepare", "-", "--documents", "line", "--validation_fraction", "0.5",
         "--tokenizer", tiny_data / "tokenizer.json", "--out", tmp_path / "data", "--json"],
        input="one\ntwo\nthree\nfour\n", capture_output=True, text=True,
    )  # fmt: skip
    assert json.loads(result.stdout)["splits"]["train"]["num_documents"] == 2


def test_the_end_says_what_was_read_and_what_was_left_out_and_why(prepare, text, tmp_path):
    (text / "table.csv").write_text("a,b")
    (text / "more.jsonl").write_text('{"text": "a record"}\n{"text": null}\n')
    result = prepare(text, "--validation-fraction", "0.34", "--bad-records", "skip")
    assert "read 1 jsonl file, 3 text files" in result.err
    assert "left out 1 files ending in .csv" in result.err
    assert f"left out 1 records: field `text` holds null (first: {text}/more.jsonl: line 2)" in result.err
    kept = prepare(text, "--validation-fraction", "0.34", "--bad-records", "skip", "--json")
    left_out = json.loads(kept.out)["left_out"]
    assert [(item["what"], item["count"]) for item in left_out] == [("files ending in .csv", 1), ("records", 1)]


def test_validation_text_that_is_trained_on_is_a_warning(prepare, text, tmp_path):
    """The train split joins the files in one document, so that no document is in both splits."""
    (tmp_path / "one.txt").write_text("".join(path.read_text() for path in sorted(text.iterdir())))
    result = prepare(tmp_path / "one.txt", "--validation", text)
    assert "warning: 100% of the validation text is also in the training text" in result.err
    assert json.loads((tmp_path / "data" / "manifest.json").read_text())["validation_in_train"] == 1


def test_other_validation_text_is_no_warning(prepare, text, tmp_path):
    (tmp_path / "other.txt").write_text("".join(f"{number} other words\n" for number in range(999)))
    assert "also in the training text" not in prepare(text, "--validation", tmp_path / "other.txt").err


def test_a_single_document_says_where_it_was_cut(prepare, tmp_path):
    (tmp_path / "input.txt").write_text("a line\n" * 100)
    assert "one document only: its text from byte 672 on" in prepare(tmp_path / "input.txt").err


def test_names_of_any_bytes_are_prepared_kept_and_inspected(tiny_data, tmp_path):
    """A name in Latin-1 is not UTF-8, but the manifest must be."""
    for name in (b"nov\xe9las", b"[bold]x [0-9]", b"$x_1$", "小説 🎉".encode(), b"two\nlines", b"-dash"):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        (folder / os.fsdecode(name + b".txt")).write_text("some words\n" * 50)
        out = folder / os.fsdecode(b"out-" + name)
        command = ["data", "prepare", folder, "--tokenizer", tiny_data / "tokenizer.json", "--out", out]
        assert run_process(*command).code == 0
        json.loads((out / "manifest.json").read_text(encoding="utf-8", errors="strict"))
        again = run_process(*command)
        assert (again.code, "kept" in again.err) == (0, True)
        assert run_process("data", "inspect", out).code == 0
        assert run_process("data", "prepare", folder / "missing", *command[3:]).code == 2


def test_io_is_checked_and_used(prepare, text, tmp_path):
    assert prepare(text, "--validation-fraction", "0.34", "--io", "pread").code == 0
    assert tttkit("data", "verify", tmp_path / "data", "--io", "pread").code == 0
    for command in (lambda: prepare(text, "--io", "disk"), lambda: tttkit("data", "verify", text, "--io", "disk")):
        assert "--io must be mmap or pread, got `disk`" in command().error


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 2, "no such source: nowhere"),
        (["nowhere/*.txt"], 2, "no file matches"),
        (["TEXT", "--tokenizer", "nothing"], 2, "unknown tokenizer `nothing`"),
        (["TEXT", "--tokenizer", "bpe:7"], 2, "N of at least 257"),
        (["TEXT", "--tokenizer", "TEXT/0.txt"], 65, "is not a tokenizer.json"),
        (["-", "--validation", "-"], 2, "stdin is named 2 times, but it can be read only once"),
        (["TEXT", "--text-field", "body"], 2, "--text-field body has no meaning"),
        (["TEXT", "--format", "csv"], 2, "unknown format `csv`"),
        (["TEXT", "--bad-records", "ignore"], 2, "--bad-records must be error or skip"),
        (["TEXT", "--out", "TEXT"], 2, "is not empty and holds no data set"),
        (["TEXT", "--out", "TEXT/0.txt"], 2, "is a file"),
        (["TEXT", "--validation-fraction", "1"], 2, "below 1"),
        (["TEXT", "--validation-fraction", "0.01"], 65, "the smallest that does is"),
        (["TEXT", "--documents", "page"], 2, "unknown document rule `page`"),
        (["TEXT", "--document-pattern", "("], 2, "not a regular expression"),
        (["TEXT", "--bad-utf8", "ignore"], 2, "strict, replace or skip"),
        (["TEXT", "--threads", "0"], 2, "--threads"),
    ],
)
def test_bad_requests(tiny_data, text, tmp_path, arguments, code, message):
    arguments = [argument.replace("TEXT", str(text)) for argument in arguments]
    defaults = {"--tokenizer": tiny_data / "tokenizer.json", "--out": tmp_path / "data"}
    for name, value in defaults.items():
        arguments += [] if name in arguments else [name, value]
    result = tttkit("data", "prepare", *arguments)
    assert result.code == code
    assert message in result.error
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("content", "name"), [(b"", "empty.txt"), (b"", "empty.jsonl")])
def test_empty_text_is_an_error(prepare, tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    result = prepare(tmp_path / name)
    assert result.code == 65
    assert name in result.error


def test_invalid_utf8_names_file_line_and_byte(prepare, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"fine\nnot f\xffine\n" * 1)
    result = prepare(tmp_path / "bad.txt", "--validation-fraction", 0)
    assert result.code == 65
    assert "bad.txt: invalid UTF-8 in line 2, byte 6 (0xff)" in result.error
    assert "--bad-utf8 replace" in result.error
    repaired = prepare(tmp_path / "bad.txt", "--validation-fraction", 0, "--bad_utf8", "skip")
    assert repaired.code == 0
    assert "warning: invalid UTF-8 in 1 files or lines (skip)" in repaired.err


def test_no_permission_to_read(tiny_data, text, tmp_path):
    """The superuser may read everything, so its capability to do so is dropped first."""
    (text / "1.txt").chmod(0)
    command = [*COMMAND, "data", "prepare", text, "--tokenizer", tiny_data / "tokenizer.json", "--out", tmp_path / "d"]
    if os.geteuid() == 0:
        without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
        if shutil.which("setpriv") is None or subprocess.run([*without, "true"], check=False).returncode:
            pytest.skip("needs setpriv, or another user than root")
        command = [*without, *command]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "1.txt: Permission denied" in result.stderr
    assert "Traceback" not in result.stderr


def test_disk_full_while_preparing(tiny_data, text, tmp_path):
    """A limit on the size of files stands in for the full disk: the system refuses the write in the same way."""
    (text / "big.txt").write_text("the cat sat on a mat " * 20_000)
    result = run_process(
        "data", "prepare", text, "--tokenizer", tiny_data / "tokenizer.json", "--out", tmp_path / "data",
        "--validation-fraction", "0.3", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )  # fmt: skip
    assert result.code == 6
    assert "disk full while writing" in result.error
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["inspect", "verify"])
@pytest.mark.parametrize(("path", "code"), [("nowhere", 2), ("text/0.txt", 2), ("text", 65)])
def test_no_data_set(text, command, path, code):
    result = tttkit("data", command, text.parent / path)
    assert result.code == code
    assert path in result.error


def test_a_truncated_shard(data):
    shard = data / "train-00000.tok"
    os.truncate(shard, shard.stat().st_size - 10)
    result = tttkit("data", "inspect", data)
    assert result.code == 65
    assert "train-00000.tok" in result.error


def test_verify_detects_a_flipped_bit(data):
    shard = data / "validation-00000.tok"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    result = tttkit("data", "verify", data)
    assert result.code == 65
    assert "validation-00000.tok" in result.error


def test_a_manifest_of_a_newer_schema(data):
    change_manifest(data, schema_version=99)
    result = tttkit("data", "inspect", data)
    assert result.code == 65
    assert "schema version 99, this tttkit reads up to 2" in result.error


def test_unknown_split(data):
    result = tttkit("data", "inspect", data, "--split", "test")
    assert result.code == 65
    assert "no split `test`" in result.error
    assert "train, validation" in result.error


def test_rate_and_time_left_do_not_count_the_training_of_the_tokenizer(monkeypatch, capsys):
    """Training the tokenizer took 100 s before the first text; then 2 MB of 12 were read in 10 s."""
    clock = iter([0.0, 100.0, 110.0])
    monkeypatch.setattr("tttkit_cli.views.data.time.monotonic", lambda: next(clock))
    view = PrepareView(json_events=False)
    for megabytes in (0, 2):
        view.update(Prepared(num_documents=1, num_tokens=5, num_bytes=megabytes * 1_000_000, total_bytes=12_000_000))
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown == "preparing: 2.0 MB, 0.2 MB/s, 5 tokens, 1 documents, 50 s left"
