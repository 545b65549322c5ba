"""Other tokenizers and recipes that turn text files into ids, for comparison with ours.

The engine of a peer loads its tokenizer, encodes the text once, and returns the number of tokens.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tttkit.data.patterns import GPT2

Engine = Callable[[Sequence[Path], Path], int]
"""Takes text files and a tokenizer.json; returns the number of tokens."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """Another implementation that turns text into tokens."""

    name: str
    package: str
    engine: Engine
    is_fast: bool
    """Whether it is fast enough for the whole text; a slow one is given a sample."""
    supports: Callable[[Path], bool] = lambda _: True
    """Whether it can encode with the tokenizer.json."""

    @property
    def is_installed(self) -> bool:
        """Whether its package is installed."""
        return importlib.util.find_spec(self.package) is not None


def _gigatoken(paths: Sequence[Path], tokenizer: Path) -> int:
    from gigatoken import Tokenizer

    rows = Tokenizer(str(tokenizer)).encode_files([str(path) for path in paths], parallel=False)
    return sum(len(row) for row in rows)


def _tiktoken(paths: Sequence[Path], tokenizer: Path) -> int:
    import tiktoken

    specification = json.loads(tokenizer.read_text(encoding="utf-8"))
    special = {token["content"]: token["id"] for token in specification["added_tokens"]}
    byte_of = {character: byte for byte, character in enumerate(_byte_characters())}
    ranks = {
        bytes(byte_of[character] for character in token): rank
        for token, rank in specification["model"]["vocab"].items()
        if token not in special
    }
    pattern = _expression(specification) or GPT2
    encoding = tiktoken.Encoding("measured", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    return sum(len(encoding.encode_ordinary(path.read_text(encoding="utf-8"))) for path in paths)


def _byte_characters() -> list[str]:
    """Return the printable character that stands for each byte in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(0x100)]


def _expression(specification: dict[str, Any]) -> str | None:
    """Return the one expression that splits text for a byte-level BPE. None if it has several, or changes the text."""
    step = specification.get("pre_tokenizer") or {}
    steps = step.get("pretokenizers") or [step]
    is_bpe = specification.get("model", {}).get("type") == "BPE" and specification.get("normalizer") is None
    if not is_bpe or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    if len(steps) == 1:
        return GPT2
    expression = steps[0].get("pattern", {}).get("Regex")
    return expression if len(steps) == 2 and isinstance(expression, str) else None


def is_byte_level(tokenizer: Path) -> bool:
    """Whether a tokenizer.json is a byte-level BPE with one expression and no normalizer or prefix space."""
    return _expression(json.loads(tokenizer.read_text(encoding="utf-8"))) is not None


def _tokenizers(paths: Sequence[Path], tokenizer: Path) -> int:
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(tokenizer))
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines(keepends=True)]
    return sum(len(one.ids) for one in loaded.encode_batch_fast(lines, add_special_tokens=False))


def _usual_recipe(paths: Sequence[Path], tokenizer: Path) -> int:
    """Do what training scripts commonly do: map a tokenizer, concatenate and cut into blocks, save to disk."""
    import datasets
    from tokenizers import Tokenizer

    length = 64
    loaded = Tokenizer.from_file(str(tokenizer))
    datasets.disable_progress_bars()

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"input_ids": [one.ids for one in loaded.encode_batch(batch["text"], add_special_tokens=False)]}

    def group_texts(batch: dict[str, list[list[int]]]) -> dict[str, Any]:
        joined = [id_ for ids in batch["input_ids"] for id_ in ids]
        blocks = [joined[at : at + length] for at in range(0, len(joined) // length * length, length)]
        return {"input_ids": blocks, "labels": [list(block) for block in blocks]}

    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines() if line]
    data = datasets.Dataset.from_dict({"text": lines})
    tokens = data.map(tokenize, batched=True, remove_columns=["text"])
    with tempfile.TemporaryDirectory() as out:
        tokens.map(group_texts, batched=True).save_to_disk(f"{out}/blocks")
    return sum(len(ids) for ids in tokens["input_ids"])


PEERS = (
    Peer(name="gigatoken encode_files, 1 thread", package="gigatoken", engine=_gigatoken, is_fast=True),
    Peer(name="tiktoken", package="tiktoken", engine=_tiktoken, is_fast=False, supports=is_byte_level),
    Peer(name="tokenizers encode_batch", package="tokenizers", engine=_tokenizers, is_fast=False),
    Peer(name="datasets.map + group_texts", package="datasets", engine=_usual_recipe, is_fast=False),
)
