"""Peak resident memory of `tttkit data prepare` on text of any size and shape: the goal is 300 MB at most.

    python benchmarks/data_memory.py [--gigabytes 2] [--files 1000000] [--threads 2] [--folder FOLDER] [--json]

Everything is made in a temporary folder, by repetition of the Python library's source, and removed afterwards. Takes
minutes and several gigabytes of disk, so `make bench` leaves it out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tttkit.data import load_manifest
from tttkit.data.sources import expand
from tttkit.data.tokenizer import load_tokenizer

GOAL_BYTES = 300_000_000
FILES_PER_FOLDER = 1000
PREPARE = """
import re, sys
from pathlib import Path
from tttkit_cli.app import main
sys.argv[1:1] = ["data", "prepare"]
try:
    main()
finally:  # of this process alone: the resource usage of a child counts what it was forked from
    print(*re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()), file=sys.stderr)
"""


def library_text() -> bytes:
    """A few megabytes of text that every machine has."""
    return b"".join(path.read_bytes() for path in expand("stdlib") if path.read_bytes().isascii())


def repeated(target: Path, num_bytes: int) -> list[str]:
    """One file of so many bytes."""
    text = library_text()
    with target.open("wb") as file:
        for start in range(0, num_bytes, len(text)):
            file.write(text[: num_bytes - start])
    return [str(target)]


def tree(root: Path, num_files: int) -> list[str]:
    """So many files of one line, in folders of folders, with names that sort differently by path and by folder."""
    for number in range(num_files):
        folder = root / f"{number // FILES_PER_FOLDER**2}" / f"{number // FILES_PER_FOLDER % FILES_PER_FOLDER}"
        if number % FILES_PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"{number % FILES_PER_FOLDER}-.txt").write_text(f"file {number}\n")
    return [str(root)]


def cases(root: Path, gigabytes: float, num_files: int) -> dict[str, Callable[[], list[str]]]:
    """What is prepared, by its name: each makes its source and returns the words after `data prepare`."""
    empty = "".join(["\n"] * 1_000_000) + "one that is not empty\n"
    records = '{"text": ""}\n' * 1_000_000 + '{"text": "one that is not empty"}\n'
    return {
        f"one document of {gigabytes:g} GB": lambda: repeated(root / "large.txt", int(gigabytes * 1e9)),
        f"{gigabytes:g} GB, a document a line": lambda: [
            *repeated(root / "lines.txt", int(gigabytes * 1e9)), "--documents", "line",
        ],
        "one document of 64 MB": lambda: repeated(root / "single.txt", 64 << 20),
        "1 MB without a space": lambda: [_write(root / "word.txt", "a" * (1 << 20))],
        "1,000,000 empty lines": lambda: [_write(root / "empty.txt", empty), "--documents", "line"],
        "1,000,000 empty records": lambda: [_write(root / "empty.jsonl", records)],
        f"{num_files:,} files": lambda: tree(root / "tree", num_files),
    }  # fmt: skip


def _write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def prepare(arguments: list[str], out: Path, tokenizer: Path, threads: int) -> dict[str, float]:
    """Run `tttkit data prepare` and see what it took."""
    command = [sys.executable, "-c", PREPARE, *arguments, "--tokenizer", str(tokenizer), "--out", str(out)]
    command += ["--threads", str(threads), "--validation-fraction", "0"]
    started = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed: {process.stderr}")
    split = load_manifest(out).splits["train"]
    return {
        "peak_rss_bytes": 1024 * int(process.stderr.split()[-1]),
        "seconds": seconds,
        "num_documents": split.num_documents,
        "num_tokens": split.num_tokens,
        "num_bytes": split.num_bytes,
    }


def main() -> None:
    """Print the table, or JSON with --json; exit code 1 where the goal was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root = Path(folder)
        tokenizer = root / "tokenizer.json"
        tokenizer.write_text(load_tokenizer("bpe:8192", lambda: iter([library_text().decode()])).json)
        for name, make in cases(root, options.gigabytes, options.files).items():
            arguments = make()
            results[name] = row = prepare(arguments, root / "data", tokenizer, options.threads)
            if not options.json:
                shape = f"{row['num_bytes'] / 1e6:9,.1f} MB {row['num_documents']:11,.0f} documents"
                peak, seconds = row["peak_rss_bytes"] / 1e6, row["seconds"]
                print(f"{name:<32} {shape}   peak {peak:6.1f} MB   {seconds:6.1f} s", flush=True)
            for made in (root / "data", Path(arguments[0])):
                shutil.rmtree(made) if made.is_dir() else made.unlink()
    if options.json:
        print(json.dumps(results, indent=2))
    sys.exit(max(row["peak_rss_bytes"] for row in results.values()) > GOAL_BYTES)


if __name__ == "__main__":
    main()
