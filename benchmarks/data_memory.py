"""Measure the peak resident memory of `tttkit data prepare` on text of any size and shape. The goal: 300 MB at most.

    python benchmarks/data_memory.py [--gigabytes 2] [--files 1000000] [--threads 2] [--folder FOLDER] [--json] [CASE …]

The text repeats the Python library's source; it is made in a temporary folder and removed afterwards. The benchmark
takes minutes and several gigabytes of disk, so `make bench` leaves it out. CASE is a word in the names of the cases to
run. A word without a space is merged as a whole whatever its length, so memory grows with the word; those cases are
compared with the memory of `tokenizers` for the same text.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tttkit.data import load_manifest
from tttkit.data.bpe_training import words_of
from tttkit.data.sources import StandardLibrary
from tttkit.data.tokenizer import load_tokenizer

GOAL_BYTES = 300_000_000
LARGE_BYTES = 64 << 20
PEER_CASE = "8 MB without a space"
FILES_PER_FOLDER = 1000
PREPARE = """
import re, sys
from pathlib import Path
from tttkit_cli.app import main
sys.argv[1:1] = ["data", "prepare"]
try:
    main()
finally:  # VmHWM covers this process alone; the resource usage of a child includes the parent it was forked from
    print(*re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()), file=sys.stderr)
"""


PEER = """
import re, sys
from pathlib import Path
from tokenizers import Tokenizer
tokenizer, text = Tokenizer.from_file(sys.argv[1]), Path(sys.argv[2]).read_text()
print(len(tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids))
print(*re.findall(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()))
"""


def library_text() -> bytes:
    """Return a few megabytes of text that every machine has."""
    return b"".join(path.read_bytes() for path in StandardLibrary("stdlib").files() if path.read_bytes().isascii())


def repeated(target: Path, num_bytes: int) -> list[str]:
    """Make one file of `num_bytes`."""
    text = library_text()
    with target.open("wb") as file:
        for start in range(0, num_bytes, len(text)):
            file.write(text[: num_bytes - start])
    return [str(target)]


def one_line(target: Path, num_bytes: int) -> list[str]:
    """Make the same file without line ends."""
    repeated(target, num_bytes)
    target.write_bytes(target.read_bytes().replace(b"\n", b" "))
    return [str(target)]


def one_record(target: Path, num_bytes: int) -> list[str]:
    """Make a jsonl file whose only line holds the same text."""
    repeated(target, num_bytes)
    target.write_text(json.dumps({"text": target.read_text()}) + "\n")
    return [str(target)]


def letters(num_bytes: int) -> str:
    """Return letters in their usual order in text, without anything between them."""
    text = "".join(char for char in library_text().decode() if char.isalpha())
    return (text * (num_bytes // len(text) + 1))[:num_bytes]


def tree(root: Path, num_files: int) -> list[str]:
    """Make files of one line in nested folders, with names that sort differently by path and by folder."""
    for number in range(num_files):
        folder = root / f"{number // FILES_PER_FOLDER**2}" / f"{number // FILES_PER_FOLDER % FILES_PER_FOLDER}"
        if number % FILES_PER_FOLDER == 0:
            folder.mkdir(parents=True)
        (folder / f"{number % FILES_PER_FOLDER}-.txt").write_text(f"file {number}\n")
    return [str(root)]


def cases(root: Path, gigabytes: float, num_files: int) -> dict[str, Callable[[], list[str]]]:
    """Return the cases by name. Each makes its source and returns the arguments of `data prepare`."""
    return {
        f"one document of {gigabytes:g} GB": lambda: repeated(root / "large.txt", int(gigabytes * 1e9)),
        f"one document of {gigabytes:g} GB, compressed": lambda: _compressed(
            *repeated(root / "large.txt", int(gigabytes * 1e9))
        ),
        f"{gigabytes:g} GB, a document a line": lambda: [
            *repeated(root / "lines.txt", int(gigabytes * 1e9)), "--documents", "line",
        ],
        "one document of 64 MB": lambda: repeated(root / "single.txt", LARGE_BYTES),
        "one line of 64 MB": lambda: [*one_line(root / "line.txt", LARGE_BYTES), "--documents", "line"],
        "one record of 64 MB": lambda: one_record(root / "record.jsonl", LARGE_BYTES),
        "1 MB without a space": lambda: [_write(root / "word.txt", "a" * (1 << 20))],
        "8 MB without a space": lambda: [_write(root / "word.txt", letters(8 << 20))],
        "64 MB without a space": lambda: [_write(root / "word.txt", letters(LARGE_BYTES))],
        "1,000,000 empty lines": lambda: [
            _write(root / "empty.txt", "\n" * 1_000_000 + "one that is not empty\n"), "--documents", "line",
        ],
        "1,000,000 empty records": lambda: [
            _write(root / "empty.jsonl", '{"text": ""}\n' * 1_000_000 + '{"text": "one that is not empty"}\n')
        ],
        f"{num_files:,} files": lambda: tree(root / "tree", num_files),
    }  # fmt: skip


def _compressed(name: str) -> list[str]:
    with Path(name).open("rb") as file, gzip.open(f"{name}.gz", "wb", compresslevel=1) as packed:
        shutil.copyfileobj(file, packed)
    Path(name).unlink()
    return [f"{name}.gz"]


def _write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def prepare(arguments: list[str], out: Path, tokenizer: Path, threads: int) -> dict[str, float]:
    """Run `tttkit data prepare` and return its time, memory and counts."""
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


def peer(path: str, tokenizer: Path) -> float:
    """Return the peak resident bytes of a process in which `tokenizers` encodes the same text."""
    command = [sys.executable, "-c", PEER, str(tokenizer), path]
    return 1024 * int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    """Print the table, or JSON with --json. Exit with code 1 if the goal was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="folder in which the temporary folder is made")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="words of the names of cases (default: all cases)")
    options = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root = Path(folder)
        tokenizer = root / "tokenizer.json"
        tokenizer.write_text(load_tokenizer("bpe:8192", words_of([library_text().decode()])).json)
        for name, make in cases(root, options.gigabytes, options.files).items():
            if not all(word in name for word in options.cases):
                continue
            arguments = make()
            results[name] = row = prepare(arguments, root / "data", tokenizer, options.threads)
            if not options.json:
                shape = f"{row['num_bytes'] / 1e6:9,.1f} MB {row['num_documents']:11,.0f} documents"
                peak, seconds = row["peak_rss_bytes"] / 1e6, row["seconds"]
                print(f"{name:<36} {shape}   peak {peak:6.1f} MB   {seconds:6.1f} s", flush=True)
            if name == PEER_CASE:
                row["tokenizers_peak_rss_bytes"] = peer(arguments[0], tokenizer)
                print(f"    tokenizers alone: peak {row['tokenizers_peak_rss_bytes'] / 1e6:.1f} MB", file=sys.stderr)
            for made in (root / "data", Path(arguments[0])):
                shutil.rmtree(made) if made.is_dir() else made.unlink()
    if options.json:
        print(json.dumps(results, indent=2))
    bounded = [row["peak_rss_bytes"] for name, row in results.items() if "without a space" not in name]
    sys.exit(any(peak > GOAL_BYTES for peak in bounded))


if __name__ == "__main__":
    main()
