from __future__ import annotations

import math
from pathlib import Path

import pytest

from tttkit.data.bpe_training import words_of
from tttkit.data.reader import Reader, Reading
from tttkit.data.sources import parse_source
from tttkit.data.text import Utf8Decoder
from tttkit.data.tokenizer import load_tokenizer

TEXTS = [
    "The cat sat on the mat.\nIt rained; she read an old book, and the ships were lost far from home.\n",
    "Café, naïve, 東京, Ωmega – “quotes” and tabs\there.\r\n\r\nDon't stop: 1,234.5 metres!\n",
    "def window(step):\n    return step * 64  # tokens\n",
]


def is_held_out(index: int, fraction: float) -> bool:
    """Whether document `index` (from 0) goes to the validation split."""
    return math.floor((index + 1) * fraction + 0.5) > math.floor(index * fraction + 0.5)


def read(*sources, bad_utf8="strict", split="train", **reading) -> list[str]:
    """Return the documents of all sources."""
    return [
        text for source in sources for text in parse_source(str(source)).documents(reader(bad_utf8, **reading), split)
    ]


def reader(bad_utf8="strict", **reading) -> Reader:
    """Return a reader with these rules."""
    return Reader(rules=Reading(**reading), decoder=Utf8Decoder(bad_utf8=bad_utf8))


@pytest.fixture(scope="session")
def tokenizer_json(tmp_path_factory) -> Path:
    """A byte-level BPE of 320 tokens, trained on `TEXTS`."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(load_tokenizer("bpe:320", words_of(TEXTS * 4)).json)
    return path


@pytest.fixture
def text_files(tmp_path) -> list[Path]:
    """One file per text."""
    folder = tmp_path / "text"
    folder.mkdir()
    for index, text in enumerate(TEXTS):
        (folder / f"{index}.txt").write_bytes(text.encode())
    return sorted(folder.iterdir())
