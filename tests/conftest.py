"""Fixtures for the whole suite."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tttkit.config.layers import merge
from tttkit.data import prepare_dataset

for _name in ("COLUMNS", "LINES"):  # tests do not depend on the size of the terminal
    os.environ.pop(_name, None)
# Tests run in parallel: threads that spin while they wait would slow the other tests down tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Without this, runs would measure how many threads to use, and their bits would depend on the moment.
os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
# No deadline, since another test may occupy the processor. CI uses the same examples each time.
settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("tests")

SHARED = Path(__file__).resolve().parents[2] / "shared"
WORDS = "the cat sat on a mat while rain fell and she read an old book about ships lost far from home".split()


@pytest.fixture(autouse=True)
def exact_products():
    """Restore exact float32 products after each test: a command that ran on a GPU turns on rounding."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_float32_matmul_precision("highest")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder beside the checkout with real corpora and tokenizers. Tests that need it are skipped without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the corpora in {SHARED.name}/ beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """A data directory of made-up sentences: 24 documents, and a byte-level BPE of 300 tokens."""
    root = tmp_path_factory.mktemp("tiny")
    generator = random.Random(0)
    (root / "text").mkdir()
    for index in range(24):
        text = " ".join(generator.choice(WORDS) for _ in range(600))
        (root / "text" / f"{index:02d}.txt").write_text(text)
    prepare_dataset([str(root / "text")], root / "data", tokenizer="bpe:300", validation_fraction=0.2)
    return root / "data"


@pytest.fixture
def tiny_values(tiny_data):
    """Build configuration values of a run that takes seconds; sections given as keywords override them."""

    def build(**sections):
        values = {
            "model": {
                "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                "mini_batch_size": 8,
            },
            "data": {"path": str(tiny_data)},
            "optimizer": {"learning_rate": 1e-2},
            "train": {
                "max_steps": 12, "window": 16, "batch_size": 4, "save_every": 4, "log_every": 1, "num_threads": 1,
                "device": "cpu",
            },
            "evaluation": {
                "num_checkpoints": 4, "max_length": 80, "num_sequences": 4, "chunk_size": 8, "chunk_stride": 8,
                "selection_windows": 16, "num_resamples": 200,
            },
        }  # fmt: skip
        return merge(values, sections)

    return build
