"""Data sets that a cluster prepares have the files of one machine, whatever is lost or stopped on the way."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.cli.conftest import tttkit, wait_until
from tests.cluster.test_tasks import StandIn
from tests.cluster.workers import kill_a_worker
from tests.data.conftest import TEXTS
from tttkit.cluster import pieces, preparation
from tttkit.cluster.preparation import ClusterEngine
from tttkit.cluster.tasks import Cluster
from tttkit.data import prepare_dataset, runs
from tttkit.data.output import PIECES_NAME
from tttkit.data.sources import parse_source
from tttkit.errors import ClusterError, DataError, TttkitError, UsageError

WORDS = "the cat sat on a mat; café 東京 ships were lost\n".split(" ")


class Backwards(StandIn):
    """Its tasks end in another order than they were handed over."""

    def wait(self, running, timeout, num_returns=1):
        if self.cancelled:
            return super().wait(running, timeout, num_returns)
        return running[-1:], running[:-1]


@pytest.fixture
def cluster(monkeypatch):
    """Let `connected` give a cluster in this process, and let each file be a run."""

    @contextmanager
    def connected(threads):
        yield Cluster(Backwards(), threads=threads or 1)

    monkeypatch.setattr(preparation, "connected", connected)
    monkeypatch.setattr(runs, "RUN_BYTES", 1)
    return ClusterEngine()


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory; there must be no other directory in it."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def a_text(number: random.Random) -> str:
    return "".join(number.choice(["\n", " = Title = \n", *WORDS]) + " " for _ in range(number.randrange(60)))


def write_file(folder: Path, index: int, kind: str, number: random.Random) -> None:
    """Write a file of text or of records, some of which are no text."""
    path, text = folder / f"{index:02d}.{kind}", a_text(number)
    if kind == "jsonl":
        records = [{"text": a_text(number)}, {"text": None}, {"other": 1}, {"text": text}]
        text = "".join(json.dumps(number.choice(records)) + "\n" for _ in range(5)) + "no JSON\n"
    data = text.encode() + (b"\xff\xfe" if number.random() < 0.3 else b"")
    path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)


@given(
    kinds=st.lists(st.sampled_from(["txt", "jsonl", "txt.gz"]), min_size=2, max_size=5),
    rules=st.sampled_from(
        [{}, {"documents": "line"}, {"documents": "blank-line"}, {"documents": "wikitext"}, {"document_pattern": "cat"}]
    ),
    fraction=st.sampled_from([0.0, 0.1, 0.3, None]),
    shard_tokens=st.integers(50, 1000),
    run_bytes=st.sampled_from([1, 300, 1 << 20]),
    seed=st.integers(0, 1 << 20),
)
@settings(
    max_examples=6, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
def test_a_cluster_writes_the_bytes_of_one_machine(
    cluster,
    tmp_path_factory,
    tokenizer_json,
    kinds,
    rules,
    fraction,
    shard_tokens,
    run_bytes,
    seed,
):
    root, number = tmp_path_factory.mktemp("same"), random.Random(seed)
    folder = root / "text"
    folder.mkdir()
    for index, kind in enumerate(kinds):
        write_file(folder, index, kind, number)
    sources = [str(folder), str(folder / "00.*")]
    options = {
        "validation_fraction": fraction or 0.0, "validation": str(folder) if fraction is None else None,
        "shard_tokens": shard_tokens, "bad_utf8": "replace", "bad_records": "skip", **rules,
    }  # fmt: skip
    runs.RUN_BYTES = run_bytes  # the fixture restores it
    expected = outcome(sources, root / "local", tokenizer_json, None, options)
    assert outcome(sources, root / "ray", tokenizer_json, cluster, options) == expected


def outcome(sources, out, tokenizer, engine, options) -> dict[str, bytes] | str:
    """Return the files of a data set, or the error if there is none."""
    try:
        prepare_dataset(sources, out, str(tokenizer), engine=engine, **options)
    except TttkitError as error:
        return f"{type(error)} {error}, {out.exists()}"
    return contents(out)


def tree(root: Path, num_files: int) -> Path:
    """Write a tree of small files in several folders."""
    number = random.Random(7)
    for index in range(num_files):
        folder = root / "tree" / str(index % 7)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.txt").write_text(a_text(number) + TEXTS[index % 3])
    return root / "tree"


def test_a_tree_of_1000_files_is_the_same_from_one_machine_and_from_a_cluster(
    cluster,
    monkeypatch,
    tmp_path,
    tokenizer_json,
):
    source = tree(tmp_path, 1000)
    monkeypatch.setattr(runs, "RUN_BYTES", 40_000)
    for name, engine in (("local", None), ("ray", cluster)):
        prepare_dataset(source, tmp_path / name, str(tokenizer_json), shard_tokens=20_000, engine=engine)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert len(contents(tmp_path / "ray")) > 6


def prepare(source, out, tokenizer, engine=None, **options) -> None:
    """Prepare a small data set with several shards."""
    options = {"shard_tokens": 300, "validation_fraction": 0.3, **options}
    prepare_dataset(source, out, str(tokenizer), engine=engine, **options)


class _Interrupted(BaseException):
    """Raised in place of the exceptions of Ctrl-C and SIGTERM."""


def interrupted(source, out, tokenizer, engine, error=_Interrupted, after=2):
    """Prepare until some pieces are there, then stop as a signal does."""
    seen = []

    def progress(_prepared):
        seen.append(1)
        if len(seen) == after:
            raise error("stopped")

    with pytest.raises(error):
        prepare(source, out, tokenizer, engine, progress=progress)


@pytest.fixture
def encoded(monkeypatch):
    """The calls that encode or count a run."""
    calls = []
    ingest = pieces.Setup.ingest

    def counting(self, *arguments, **options):
        calls.append(options)
        return ingest(self, *arguments, **options)

    monkeypatch.setattr(pieces.Setup, "ingest", counting)
    return calls


@pytest.mark.parametrize("error", [_Interrupted, ClusterError])
def test_a_stopped_preparation_keeps_its_pieces_and_goes_on_after_them(
    cluster,
    encoded,
    tmp_path,
    tokenizer_json,
    error,
):
    source, out = tree(tmp_path, 6), tmp_path / "out"
    interrupted(source, out, tokenizer_json, cluster, error)
    assert sum(path.is_dir() for path in (out / PIECES_NAME).iterdir()) == 2
    assert len(encoded) == 6 + 2
    prepare(source, tmp_path / "local", tokenizer_json)
    damaged = next(path for path in (out / PIECES_NAME).iterdir() if path.is_dir())
    shard = next(damaged.glob("*.tok"))
    data = bytearray(shard.read_bytes())
    data[70] ^= 1  # of an id
    shard.write_bytes(data)
    encoded.clear()
    prepare(source, out, tokenizer_json, cluster)
    assert len(encoded) == 5  # the four that were missing and the damaged one
    assert contents(out) == contents(tmp_path / "local")


def test_each_engine_goes_on_where_the_other_was_stopped(cluster, tmp_path, tokenizer_json):
    source = tree(tmp_path, 6)
    prepare(source, tmp_path / "local", tokenizer_json)
    for number, (first, second) in enumerate([(cluster, None), (None, cluster)]):
        out = tmp_path / str(number)
        interrupted(source, out, tokenizer_json, first, after=1)
        prepare(source, out, tokenizer_json, second)
        assert contents(out) == contents(tmp_path / "local")


def test_an_error_or_another_request_removes_the_pieces(cluster, encoded, tmp_path, tokenizer_json):
    source, out = tree(tmp_path, 6), tmp_path / "out"
    interrupted(source, out, tokenizer_json, cluster)
    prepare(source, out, tokenizer_json, cluster, shard_tokens=299)
    assert len(encoded) == 6 + 2 + 6 + 6
    (source / "0" / "0.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"0\.txt: invalid UTF-8 in line 1, byte 1"):
        prepare(source, tmp_path / "other", tokenizer_json, cluster)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("source", ["-", "hf:folder"])
def test_a_stream_or_a_data_set_is_refused_in_one_line(source):
    job = SimpleNamespace(sources=[parse_source(source)], validation=None)
    with pytest.raises(UsageError, match=f"but {source} is a stream or a data set") as error:
        ClusterEngine().check(job)
    assert "leave out --engine ray" in error.value.hint


def test_one_file_that_is_one_document_is_refused_in_one_line(cluster, tmp_path, tokenizer_json):
    source, out = tmp_path / "a.txt", tmp_path / "out"
    source.write_text("one text\n" * 9)
    with pytest.raises(UsageError, match="the sources are one file that is one document"):
        prepare(source, out, tokenizer_json, cluster)
    assert not out.exists()
    prepare(source, out, tokenizer_json, cluster, documents="line")
    assert (out / "manifest.json").exists()


def test_without_ray_the_command_says_so_in_one_line(tmp_path, tokenizer_json, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    command = ("data", "prepare", tree(tmp_path, 3), "--tokenizer", tokenizer_json, "--out", tmp_path / "out")
    result = tttkit(*command, "--engine", "ray")
    assert (result.code, result.out) == (2, "")
    assert "--engine ray needs the package ray" in result.error
    assert "--engine must be one of local, ray" in tttkit(*command, "--engine", "spark").error
    assert not (tmp_path / "out").exists()


def test_a_killed_worker_and_a_tree_of_1000_files_on_a_cluster(ray, tmp_path, tokenizer_json, monkeypatch):
    source = tree(tmp_path, 1000)
    monkeypatch.setattr(runs, "RUN_BYTES", 5000)
    command = ("data", "prepare", source, "--tokenizer", tokenizer_json, "--json")
    assert tttkit(*command, "--out", tmp_path / "local").code == 0
    for task in ("count_documents", "encode_run"):
        killed: list[int] = []
        ended = threading.Event()
        watcher = threading.Thread(target=kill_a_worker, args=(task, killed, ended))
        watcher.start()
        result = tttkit(*command, "--out", tmp_path / task, "--engine", "ray")
        ended.set()
        watcher.join()
        assert result.code == 0, result.err
        assert killed
        events = [json.loads(line) for line in result.out.splitlines()]
        assert {event["event"] for event in events} <= {"progress", "end"}
        assert events[-1]["splits"].keys() == {"train", "validation"}
        assert contents(tmp_path / task) == contents(tmp_path / "local")


@pytest.mark.skipif("TTTKIT_SLOW_TESTS" not in os.environ, reason="starts clusters; set TTTKIT_SLOW_TESTS=1")
def test_a_command_that_is_stopped_or_killed_goes_on_after_its_pieces(tmp_path, tokenizer_json):
    pytest.importorskip("ray")
    source, out = tree(tmp_path, 1000), tmp_path / "out"
    prepare_dataset(source, tmp_path / "local", str(tokenizer_json))
    arguments = ["data", "prepare", source, "--tokenizer", tokenizer_json, "--out", out, "--engine", "ray"]
    small_runs = "from tttkit.data import runs; runs.RUN_BYTES = 2000; from tttkit_cli.app import main; main()"
    command = [sys.executable, "-c", small_runs, *map(str, arguments)]

    def made() -> set[str]:
        return {path.name for path in (out / PIECES_NAME).glob("[0-9a-f]*")}

    for number, code in ((signal.SIGINT, 75), (signal.SIGTERM, 75), (signal.SIGKILL, -9)):
        before = made()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as driver:
            wait_until(lambda before=before: len(made()) > len(before) + 2, driver)
            driver.send_signal(number)
            _, errors = driver.communicate(timeout=120)
        assert driver.returncode == code, errors
        assert made() > before
        assert not (out / "manifest.json").exists()
        assert number == signal.SIGKILL or not list(out.rglob(".tmp-*"))
    assert subprocess.run(command, check=False).returncode == 0
    assert contents(out) == contents(tmp_path / "local")
