from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from safetensors.numpy import save

from tttkit.analyze.record import load
from tttkit.run.directory import find_run
from tttkit.storage import files

LABELS = (1, 2, 5, 10, 20)


def r3(count=5, window=32, start=0):
    """Make entries with means only, as in the 100xW files; entry 0 has no training loss, entry 2 a loss of 0."""
    return [
        {
            "checkpoint_idx": index, "step": 200 * index, "training_window": window, "eval_max_length": 100 * window,
            "chunk_size": 16, "chunk_stride": 16, "num_sequences": 64,
            "training_loss": None if index == 0 else 0.0 if index == 2 else 5.0,
            "ttt_ppl_mean": 500.0 - index, "sw_ppl_mean": 480.0 - index,
        }
        for index in range(start, start + count)
    ]  # fmt: skip


def r1(count=5, window=64, multiples=LABELS, position=int):
    """Make entries with labels, but without the number of sequences and the training loss."""
    random.seed(3)
    entries = []
    for index in range(count):
        entry = {
            "checkpoint_idx": index, "step": 2040 * index, "training_window": window, "eval_max_length": 20 * window,
            "chunk_size": 16, "chunk_stride": 16,
        }  # fmt: skip
        for multiple in multiples:
            level = 60 + 3000 * math.exp(-index) + random.random()
            entry[f"ttt_ppl_at_{multiple}xW"] = level * multiple**0.1
            entry[f"sw_ppl_at_{multiple}xW"] = level
            entry[f"x_pos_at_{multiple}xW"] = position(multiple * window - 8)
        entries.append(entry)
    return entries


def r5(chunks=79):
    """Make the curve of one evaluation."""
    ends = [16 * (chunk + 1) for chunk in range(chunks)]
    return {
        "max_length": 1280, "training_window": 64, "chunk_size": 16, "chunk_stride": 16, "x_mode": "end",
        "chunk_x": ends, "chunk_centers": [end - 8 for end in ends], "chunk_ends": ends,
        "chunk_ppl_ttt": [100.0 + end for end in ends], "chunk_ppl_sw": [150.0] * chunks, "num_sequences": 64,
    }  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """`write(name, value)` writes a JSON file below a temporary directory and returns its path."""

    def build(name, value):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
        return path

    return build


@pytest.fixture
def make_run(tmp_path):
    """`make_run(steps, nll)` writes a run of ours with planted NLL by sequence and returns its Record.

    `nll(context, step, generator)` gives the mean NLL of each chunk, (sequences, 20), W = 64 and K = S = 64.
    """

    def build(steps, nll, *, name="run", num_documents=None, seed=0, metrics=(), **summary):
        run = tmp_path / name
        run.mkdir(parents=True, exist_ok=True)
        summaries = [
            _checkpoint(run, index, step, nll, seed, num_documents, summary) for index, step in enumerate(steps)
        ]
        config = {"train": {"max_steps": steps[-1], "window": 64, "seed": seed},
                  "evaluation": {"num_checkpoints": len(steps)}}  # fmt: skip
        metadata = {"schema_version": 1, "config": config, "result": {"reason": "finished"}, "model": {}}
        files.write_json(run / "metadata.json", metadata)
        files.write_json(run / "all_summaries.json", summaries)
        (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in metrics))
        return load(find_run(run))

    return build


def _checkpoint(run, index, step, nll, seed, num_documents, extra):
    generator = np.random.default_rng(seed)
    arrays = {name: nll(name, step, generator).astype(np.float32) for name in ("full", "sw", "sw_aligned", "reset")}
    count = arrays["full"].shape[0]
    documents = np.arange(count) * (num_documents or count) // count
    directory = run / f"checkpoint_{index:03d}"
    directory.mkdir(exist_ok=True)
    ends = 64 * np.arange(1, arrays["full"].shape[1] + 1)
    (directory / "chunk_nll.safetensors").write_bytes(save({**arrays, "ends": ends, "documents": documents}))
    summary = {
        "schema_version": 1, "checkpoint_idx": index, "step": step, "tokens_seen": 2048 * step, "model": "ttt-linear",
        "training_window": 64, "eval_max_length": 1280, "chunk_size": 64, "chunk_stride": 64, "num_sequences": count,
        "aggregate": "mean", "data_fingerprint": "f" * 64, "selection_ppl": float(np.exp(arrays["full"][:, 0].mean())),
        **extra,
    }  # fmt: skip
    for name, values in arrays.items():
        for multiple in LABELS:
            key = f"{'ttt' if name == 'full' else name}_ppl_at_{multiple}xW"
            summary[key] = float(np.exp(values[:, multiple - 1].mean()))
    return summary
