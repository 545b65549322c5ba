"""`tttkit bench`: that every engine counts the same tokens; never how fast."""

from __future__ import annotations

import json

from tests.cli.conftest import tttkit


def test_bench_data_measures_every_engine_on_the_users_file(tiny_data, tmp_path):
    (tmp_path / "text.txt").write_text("the cat sat on a mat, and she read.\n" * 200)
    result = tttkit(
        "bench", "data", tmp_path / "text.txt", "--tokenizer", tiny_data / "tokenizer.json", "--rounds", 1,
        "--threads", 1, "--threads", 2, "--json",
    )  # fmt: skip
    assert result.code == 0
    rows = {row["engine"]: row for row in json.loads(result.out)}
    one, two = rows["tttkit data prepare, 1 thread"], rows["tttkit data prepare, 2 threads"]
    assert one["num_tokens"] == two["num_tokens"] == rows["tokenizers encode_batch (sample)"]["num_tokens"] + 1
    assert all(row["cpu_seconds"] > 0 for row in rows.values())


def test_bench_data_refuses_an_empty_text(tiny_data, tmp_path):
    (tmp_path / "text.txt").write_text("")
    result = tttkit("bench", "data", tmp_path / "text.txt", "--tokenizer", tiny_data / "tokenizer.json")
    assert result.code == 2
    assert "no text in" in result.error
