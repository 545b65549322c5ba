"""Prepare the DATA directory of a synthetic task: examples of W tokens, so that window k of training is example k."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tttkit.data.job import PrepareProgress
from tttkit.data.manifest import Manifest
from tttkit.data.prepare import prepare_dataset
from tttkit.data.synthetic.tasks import make_examples, trained_sizes
from tttkit.data.synthetic.vocabulary import tokenizer_json, words
from tttkit.storage import files
from tttkit.storage.commits import remove_directory

NUM_VALIDATION = 256
_SEEDS = {"train": 1, "validation": 2}
_AT_ONCE = 4096


def prepare_task(
    name: str, out: Path, *, window: int, num_examples: int, progress: PrepareProgress | None = None
) -> Manifest:
    """Write the examples of a task to DATA directory `out`; equal arguments give equal bytes.

    Raises UsageError for an unknown task or a window that is too short, and as `prepare_dataset` does.
    """
    texts = out.with_name(f".{out.name}.task")
    files.make_directory(texts)
    files.write_text(texts / "tokenizer.json", tokenizer_json())
    for split, count in (("train", num_examples), ("validation", NUM_VALIDATION)):
        files.write_text(texts / f"{split}.txt", _lines(name, window, count, _SEEDS[split]))
    manifest = prepare_dataset(
        [texts / "train.txt"], out, tokenizer=str(texts / "tokenizer.json"), validation=[texts / "validation.txt"],
        documents="line", progress=progress,
    )  # fmt: skip
    remove_directory(texts)
    return manifest


def _lines(name: str, window: int, num_examples: int, seed: int) -> str:
    """Return an example per line, in words; the end of text is left out, because the preparation adds it."""
    vocabulary = np.array(words(), dtype=object)
    sizes, lines = trained_sizes(name, window), []
    for block, first in enumerate(range(0, num_examples, _AT_ONCE)):
        count = min(_AT_ONCE, num_examples - first)
        parts = [
            make_examples(name, -(-count // len(sizes)), window, size, seed=1000 * seed + block).tokens
            for size in sizes
        ]
        tokens = np.stack(parts, axis=1).reshape(-1, window)[:count]
        lines += [" ".join(row) for row in vocabulary[tokens[:, :-1]].tolist()]
    return "\n".join(lines) + "\n"
