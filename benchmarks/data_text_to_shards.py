"""Compare text to token shards with gigatoken, tiktoken, tokenizers and the usual recipe, in one run.

    python benchmarks/data_text_to_shards.py [SOURCE…] [--tokenizer T] [--threads 1,2] [--rounds 5] [--json]

Without SOURCE it measures the Python library's own source, with a tokenizer of 8,192 tokens trained on it. `make bench`
runs it. Our engine is measured with the best vector instructions of the processor on each number of threads, and on one
thread with each set of instructions, down to scalar. Goals: 1.0 x gigatoken on one thread, 1.8 x gigatoken on two,
100 x the usual recipe, 80 MB/s scalar.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

from tttkit.data.benchmark import machine, measure_preparation, missing_peers, text_files
from tttkit.data.bpe_training import words_of
from tttkit.data.reader import Reader
from tttkit.data.reading import file_item, item_documents
from tttkit.data.tokenizer import load_tokenizer
from tttkit_cli.bench import preparation_table
from tttkit_cli.console import print_table


def main() -> None:
    """Print the table, or JSON with --json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sources", nargs="*", default=["stdlib"])
    parser.add_argument("--tokenizer", default="bpe:8192")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    paths = text_files(options.sources)

    reader = Reader()
    texts = item_documents((file_item(path, reader.rules) for path in paths), reader)
    loaded = load_tokenizer(options.tokenizer, words_of(texts))
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Path(folder) / "tokenizer.json"
        tokenizer.write_text(loaded.json, encoding="utf-8")
        rows = measure_preparation(
            paths,
            tokenizer,
            threads=[int(count) for count in options.threads.split(",")],
            rounds=options.rounds,
            every_simd=True,
        )
    if options.json:
        result = {"machine": machine(), "missing": missing_peers(), "rows": [dataclasses.asdict(row) for row in rows]}
        print(json.dumps(result, indent=2))
        return
    print_table(preparation_table(rows, machine()))
    if missing_peers():
        print(f"not installed, so not measured: {', '.join(missing_peers())}; pip install --group bench")


if __name__ == "__main__":
    main()
