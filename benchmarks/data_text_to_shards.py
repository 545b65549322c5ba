"""Compare text to token shards with gigatoken, tiktoken, tokenizers and the usual recipe, in one run.

    python benchmarks/data_text_to_shards.py [SOURCE…] [--tokenizer T]… [--threads 1,2] [--rounds 5] [--json]

Without SOURCE it measures the Python library's own source, with a tokenizer of 8,192 tokens trained on it; `make bench`
runs that. Our engine is measured with the best vector instructions of the processor on each number of threads, and on
one thread with each set of instructions, down to scalar. Several tokenizers get one table with a row for each; `stdlib`
beside a directory of novels is the mixture of code and prose. Goals for every tokenizer: 1.0 x gigatoken on one thread,
1.8 x on two, 50 x `tokenizers`, 60 MB/s scalar; for GPT-2's also 100 x the usual recipe.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tttkit.data.benchmark import Measurement, machine, measure_preparation, missing_peers, text_files
from tttkit.data.bpe_training import words_of
from tttkit.data.reader import Reader
from tttkit.data.reading import file_item, item_documents
from tttkit.data.tokenizer import load_tokenizer
from tttkit_cli.bench_data import preparation_table, tokenizers_table
from tttkit_cli.console import print_table


def main() -> None:
    """Print the table, or JSON with --json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sources", nargs="*", default=["stdlib"])
    parser.add_argument("--tokenizer", action="append", help="may be repeated (default: bpe:8192)")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    paths = text_files(options.sources)
    threads = [int(count) for count in options.threads.split(",")]
    measured = {name: _measure(name, paths, threads, options.rounds) for name in options.tokenizer or ["bpe:8192"]}

    if options.json:
        rows = {name: [dataclasses.asdict(row) for row in rows] for name, rows in measured.items()}
        print(json.dumps({"machine": machine(), "missing": missing_peers(), "rows": rows}, indent=2))
        return
    for name, rows in measured.items():
        print_table(preparation_table(rows, machine(), name))
    if len(measured) > 1:
        print_table(tokenizers_table(measured))
    if missing_peers():
        print(f"not installed, so not measured: {', '.join(missing_peers())}; pip install --group bench")


def _measure(name: str, paths: Sequence[Path], threads: Sequence[int], rounds: int) -> list[Measurement]:
    """Measure every engine with one tokenizer."""
    reader = Reader()
    texts = item_documents((file_item(path, reader.rules) for path in paths), reader)
    loaded = load_tokenizer(name, words_of(texts))
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Path(folder) / "tokenizer.json"
        tokenizer.write_text(loaded.json, encoding="utf-8")
        return measure_preparation(paths, tokenizer, threads=threads, rounds=rounds, every_simd=True)


if __name__ == "__main__":
    main()
