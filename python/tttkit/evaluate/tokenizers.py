"""Compare the tokenizer of a model with the one that the data was made with, by vocabulary and merges."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttkit.data import load_manifest
from tttkit.data.manifest import TOKENIZER_NAME
from tttkit.data.tokenizer import load_tokenizer
from tttkit.data.tokenizer_folder import has_tokenizer
from tttkit.errors import DataError, TttkitError
from tttkit.storage import files

_MAX_BYTES = 256 << 20


def check_tokenizer(directory: Path, config: Mapping[str, Any], data: Path) -> str | None:
    """Refuse data that was made with another tokenizer than the model's. Raises DataError.

    `config` is the config.json of the model. Return None if the tokenizers are the same, or a sentence for the user if
    the model directory holds no tokenizer to compare.
    """
    used, expected = load_manifest(data).tokenizer_sha256, config.get("tokenizer_sha256")
    if expected == used:
        return None
    path = directory / TOKENIZER_NAME
    if expected is not None and not (path.is_file() and files.sha256_of(path) == expected):
        raise DataError(
            f"{directory} was trained with tokenizer {str(expected)[:12]}, but the data were prepared with {used[:12]}",
            hint=f"prepare the data with --tokenizer {path}",
        )
    own = tokenizer_of(directory)
    if own is None:
        return f"{directory} holds no tokenizer, so it is not known whether the data fits the model"
    if vocabulary_and_merges(own) != vocabulary_and_merges(_read(data / TOKENIZER_NAME)):
        raise DataError(
            f"{directory} has another tokenizer than the data in {data}: their vocabularies or merges differ",
            hint=f"prepare the data with the model's own: tttkit data prepare SOURCE --out OUT --tokenizer {directory}",
        )
    return None


def vocabulary_and_merges(tokenizer: Any) -> tuple[dict[str, Any], list[tuple[str, ...]]]:
    """Return what decides the ids of a tokenizer.json: every token with its id, and the merges in order.

    Unigram models list their tokens with scores, which take the place of merges.
    """
    model = tokenizer.get("model") if isinstance(tokenizer, dict) else None
    model = model if isinstance(model, dict) else {}
    vocab = model.get("vocab")
    known = dict(vocab) if isinstance(vocab, dict) else {}
    scores = [tuple(str(part) for part in item) for item in vocab] if isinstance(vocab, list) else []
    if isinstance(vocab, list):
        known = {item[0]: index for index, item in enumerate(vocab) if isinstance(item, list) and item}
    added = tokenizer.get("added_tokens") if isinstance(tokenizer, dict) else None
    for each in added if isinstance(added, list) else []:
        if isinstance(each, dict):
            known[str(each.get("content"))] = each.get("id")
    listed = model.get("merges") or []
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in listed]
    return known, scores or merges


def tokenizer_of(directory: Path) -> Any:
    """Return the tokenizer.json of a model directory as values; None if the directory holds no tokenizer."""
    path = directory / TOKENIZER_NAME
    if path.is_file():
        return _read(path)
    if not has_tokenizer(directory):
        return None
    try:
        return json.loads(load_tokenizer(str(directory)).json)
    except TttkitError as error:
        raise DataError(f"the tokenizer of {directory} cannot be read: {error}", hint=error.hint) from error


def _read(path: Path) -> Any:
    return files.read_json(path, max_bytes=_MAX_BYTES)
