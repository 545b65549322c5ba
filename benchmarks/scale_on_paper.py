"""How far today's design reaches: 1 T tokens and 1,000 nodes, measured where one machine can, computed elsewhere.

`python benchmarks/scale_on_paper.py [SHARDS …]` measures with the real code on real files how long it takes to write
and load a manifest, to open a split and to read the first batch, for each number of shards (default: 1,000, 10,000 and
100,000). The shards are tiny: a shard costs its index and its mapping, not its tokens. The rest of the table is
arithmetic from the sizes below, and marked as computed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tttkit.data import Manifest, WindowSampler, load_manifest, open_split, prepare_dataset
from tttkit.data.manifest import MANIFEST_NAME, ShardEntry, SplitEntry, fingerprint, save_manifest
from tttkit.data.prepare import SHARD_TOKENS
from tttkit.errors import TttkitError

TOKENS, NODES, GPUS_PER_NODE = 10**12, 1000, 8
PARAMETERS = {"125m": 125e6, "1.3b": 1.3e9}
BYTES_PER_PARAMETER = 12
"""fp32 weights and two moments."""
WRITE_BANDWIDTH = 1e9
"""Bytes per second of one writing process on a shared file system; an assumption."""
METADATA_RATE = 20_000
"""Operations per second of the metadata server of a shared file system; an assumption."""
MOST_LINKS = 30_000
"""Names per file here; file systems refuse more at 65,000."""


def make_data(folder: Path, num_shards: int, *, quiet: bool = False) -> Path:
    """Make a data set of many names of a few real shards, with a real manifest."""
    text = folder / "text.txt"
    words = np.random.default_rng(0).integers(0, 26, (400, 5))
    text.write_text(" ".join("".join(chr(97 + letter) for letter in word) for word in words))
    made = prepare_dataset([str(text)], folder / "made", tokenizer="bpe:300", validation_fraction=0)
    shard = made.splits["train"].shards[0]
    out = folder / f"data-{num_shards}"
    out.mkdir()
    shutil.copy(folder / "made" / "tokenizer.json", out)
    names = [f"train-{index:05d}.tok" for index in range(num_shards)]
    for index, name in enumerate(names):
        if index % MOST_LINKS == 0:
            first = out / name
            shutil.copy(folder / "made" / shard.name, first)
        else:
            os.link(first, out / name)
    entries = [
        ShardEntry(
            name=name, num_tokens=shard.num_tokens, num_documents=shard.num_documents, max_token=shard.max_token,
            sha256=shard.sha256,
        )
        for name in names
    ]  # fmt: skip
    one = made.splits["train"]
    splits = {
        "train": SplitEntry(
            shards=entries, num_tokens=one.num_tokens * num_shards, num_documents=one.num_documents * num_shards,
            num_bytes=one.num_bytes * num_shards, num_words=one.num_words * num_shards,
        )
    }  # fmt: skip
    values = {name: getattr(made, name) for name in Manifest.__dataclass_fields__}
    mark = fingerprint(made.tokenizer_sha256, splits)
    manifest = Manifest(**{**values, "splits": splits, "fingerprint": mark})
    seconds = timed(lambda: save_manifest(out, manifest))
    if quiet:
        return out
    say(f"manifest of {num_shards:,} shards: bytes", f"{(out / MANIFEST_NAME).stat().st_size:,}", "measured")
    say(f"manifest of {num_shards:,} shards: write", f"{seconds:.2f} s", "measured")
    return out


def sampler_of(split) -> None:
    """Read the first batch."""
    WindowSampler(split, window=64, batch_size=4, seed=0).batch(0)


def timed(call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def say(what: str, value: str, how: str) -> None:
    print(f"| {what} | {value} | {how} |")


def measure(folder: Path, num_shards: int) -> None:
    """Measure the index of a data set of many shards."""
    data = make_data(folder, num_shards)
    say(f"manifest of {num_shards:,} shards: load", f"{timed(lambda: load_manifest(data)):.2f} s", "measured")
    began = time.perf_counter()
    try:
        split = open_split(data, "train")
        opened = time.perf_counter() - began
        sampler_of(split)
        first = time.perf_counter() - began
    except (TttkitError, OSError, MemoryError) as error:
        say(f"open a split of {num_shards:,} shards", f"fails: {type(error).__name__}: {error}"[:160], "measured")
        return
    say(f"open a split of {num_shards:,} shards", f"{opened:.2f} s", "measured")
    say(f"{num_shards:,} shards: first batch after", f"{first:.2f} s", "measured")


def compute() -> None:
    """Print what follows from the sizes."""
    shards = TOKENS // SHARD_TOKENS
    ranks = NODES * GPUS_PER_NODE
    say("shards of 2^26 tokens for 1 T tokens", f"{shards:,}", "computed")
    say("bytes of 1 T tokens, uint16 / uint32", "2.0 TB / 4.0 TB", "computed")
    for name, parameters in PARAMETERS.items():
        size = parameters * BYTES_PER_PARAMETER
        say(f"checkpoint of {name}", f"{size / 1e9:.1f} GB", "computed")
        say(f"checkpoint of {name}, one writer at 1 GB/s", f"{size / WRITE_BANDWIDTH:.1f} s", "computed")
        say(f"checkpoint of {name}, {NODES:,} writers", f"{size / NODES / 1e6:.1f} MB each", "computed")
    for what, operations in {
        "open and stat of every shard by every rank": ranks * shards * 2,
        "open and stat of every shard by one rank per node": NODES * shards * 2,
        "open and stat of the manifest alone by every rank": ranks * 2,
    }.items():
        say(f"{what}: operations", f"{operations:,}", "computed")
        say(f"{what}: at 20,000 per second", f"{operations / METADATA_RATE:,.0f} s", "computed")
    sequences, length, contexts = 64, 20 * 2048, 4
    evaluation = sequences * length * contexts * 1.1
    say("tokens of one evaluation, W = 2,048, 64 sequences of 20 W, 4 contexts (sw at labels)", f"{evaluation:,.0f}",
        "computed")  # fmt: skip
    say("50 evaluations as a share of the forward passes of training", f"{50 * evaluation / TOKENS * 100:.3f} %",
        "computed")  # fmt: skip
    say("the same in time, if 64 of 8,000 ranks evaluate a sequence each while the others wait",
        f"{50 * evaluation / sequences / (TOKENS / ranks) / 3 * 100:.1f} %", "computed")  # fmt: skip


def main() -> None:
    """Print the table."""
    counts = [int(word.replace(",", "")) for word in sys.argv[1:]] or [1_000, 10_000, 100_000]
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        sampler_of(open_split(make_data(Path(folder), 1, quiet=True), "train"))  # imports what is imported late
    print("| what | value | how |\n|---|---|---|")
    for count in counts:
        with tempfile.TemporaryDirectory(prefix="scale-") as folder:
            measure(Path(folder), count)
    compute()


if __name__ == "__main__":
    main()
