"""`tttkit bench`: every engine must count the same tokens; speeds are not tested."""

from __future__ import annotations

import importlib.util
import json
import os

import pytest

from tests.cli.conftest import tttkit
from tttkit.data.benchmark import machine, measure_preparation
from tttkit.data.peers import PEERS, is_byte_level


def test_bench_data_measures_every_engine_on_the_users_files(tiny_data, tmp_path):
    (tmp_path / "text").mkdir()
    for index in range(2):
        (tmp_path / "text" / f"{index}.txt").write_text("the cat sat on a mat, and she read.\n" * 100)
    result = tttkit(
        "bench", "data", tmp_path / "text", "--tokenizer", tiny_data / "tokenizer.json", "--rounds", 1,
        "--threads", 1, "--threads", 2, "--json",
    )  # fmt: skip
    assert result.code == 0
    figures = json.loads(result.out)
    assert {row["tokenizer"] for row in figures["rows"]} == {str(tiny_data / "tokenizer.json")}
    rows = {row["engine"]: row for row in figures["rows"]}
    one, two = rows["tttkit data prepare, 1 thread"], rows["tttkit data prepare, 2 threads"]
    assert one["num_tokens"] == two["num_tokens"] == rows["tokenizers encode_batch (sample)"]["num_tokens"] + 2
    assert all(row["cpu_seconds"] > 0 for row in rows.values())
    assert (one["first_is"], one["first_is_by_cpu"]) == (1, 1)
    assert two["first_is"] == pytest.approx(two["seconds"] / one["seconds"])
    assert figures["machine"]["num_cores"] >= 1
    for package in figures["missing"]:
        assert importlib.util.find_spec(package) is None
        assert f"pip install {' '.join(figures['missing'])}" in result.err


def test_several_tokenizers_get_a_row_each(tiny_data, tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat on a mat, and she read.\n" * 100)
    other = tmp_path / "other.json"
    other.write_bytes((tiny_data / "tokenizer.json").read_bytes())
    both = ("--tokenizer", tiny_data / "tokenizer.json", "--tokenizer", other)
    result = tttkit("bench", "data", tmp_path / "text.txt", *both, "--rounds", 1)
    assert result.code == 0
    last = result.out[result.out.rindex("MB per CPU second of the first engine") :]
    assert all(str(name) in last for name in (tiny_data / "tokenizer.json", other))
    twice = tttkit("bench", "data", tmp_path / "text.txt", "--tokenizer", other, "--tokenizer", other)
    assert (twice.code, "named twice" in twice.err) == (2, True)


def test_peers_agree_on_the_number_of_tokens(tiny_data, tmp_path):
    """Compare the installed peers except `datasets`, which leaves out line ends."""
    (tmp_path / "text.txt").write_text("the cat sat on a mat, and she'll read 1,234 old books.\n\n" * 50)
    tokenizer = tiny_data / "tokenizer.json"
    assert is_byte_level(tokenizer)
    counts = {
        peer.package: peer.engine([tmp_path / "text.txt"], tokenizer)
        for peer in PEERS
        if peer.is_installed and peer.package != "datasets"
    }
    assert len(set(counts.values())) == 1, counts


def test_every_set_of_instructions_is_measured(tiny_data, tmp_path, monkeypatch):
    """Each set has its name and the same tokens, and the environment variable is restored afterwards."""
    (tmp_path / "text.txt").write_text("the cat sat on a mat\n" * 50)
    monkeypatch.setenv("TTTKIT_SIMD", "scalar")
    rows = measure_preparation([tmp_path / "text.txt"], tiny_data / "tokenizer.json", rounds=1, every_simd=True)
    ours = {row.engine: row.num_tokens for row in rows if row.engine.startswith("tttkit")}
    assert "tttkit data prepare, 1 thread, scalar" in ours
    features = {name.rstrip("bwf") for name in machine()["features"]}
    assert {name.rpartition(", ")[2] for name in ours} - {"1 thread", "scalar"} == features & {"avx2", "avx512"}
    assert len(set(ours.values())) == 1
    assert os.environ["TTTKIT_SIMD"] == "scalar"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.txt", b"", "no text in"),
        ("text.txt.gz", b"x", "is not plain text"),
        ("a.jsonl", b"{}", "is not plain text"),
    ],
)
def test_bench_data_refuses_sources_that_cannot_be_measured(tiny_data, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    result = tttkit("bench", "data", tmp_path / name, "--tokenizer", tiny_data / "tokenizer.json")
    assert result.code == 2
    assert message in result.error
    assert "no such source" in tttkit("bench", "data", "nowhere", "--tokenizer", tiny_data / "tokenizer.json").error
