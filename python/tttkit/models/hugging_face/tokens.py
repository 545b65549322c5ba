"""Which tokens begin (BOS) and end the texts of a model, from the files of its directory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttkit.storage import files

_MAX_JSON_BYTES = 256 << 20
_ADDS_BY_DEFAULT = ("LlamaTokenizer", "GemmaTokenizer", "CodeLlamaTokenizer")
"""Tokenizer classes that add a BOS unless their files say otherwise."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bos:
    """The beginning-of-sequence token of a model."""

    id: int | None
    """None if the model's files name none."""
    is_added: bool
    """Whether the model's tokenizer puts it in front of every text."""


def read_bos(directory: Path, config: Mapping[str, Any]) -> Bos:
    """Return the BOS of a model directory. Raises DataError if a file is not JSON.

    The first of these decides whether it is added: `add_bos_token` in tokenizer_config.json, the template in
    tokenizer.json, the default of the tokenizer's class.
    """
    settings, tokenizer = (_read(directory / name) for name in ("tokenizer_config.json", "tokenizer.json"))
    generation = _read(directory / "generation_config.json")
    template_id = _template_bos(tokenizer)
    added = settings.get("add_bos_token")
    if not isinstance(added, bool):
        name = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
        added = template_id is not None if tokenizer else name in _ADDS_BY_DEFAULT
    candidates = (
        template_id,
        config.get("bos_token_id"),
        generation.get("bos_token_id"),
        _named_bos(settings, tokenizer),
    )
    bos_id = next((value for value in candidates if isinstance(value, int) and not isinstance(value, bool)), None)
    return Bos(id=bos_id, is_added=added and bos_id is not None)


def read_end_ids(directory: Path, config: Mapping[str, Any]) -> frozenset[int]:
    """Return the tokens that end a generated text, from generation_config.json, else config.json: one, several or none.

    Raises DataError if a file is not JSON.
    """
    value = _read(directory / "generation_config.json").get("eos_token_id", config.get("eos_token_id"))
    ids = value if isinstance(value, list) else [value]
    return frozenset(each for each in ids if isinstance(each, int) and not isinstance(each, bool))


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty if the file is missing or holds something else."""
    if not path.is_file():
        return {}
    values = files.read_json(path, max_bytes=_MAX_JSON_BYTES)
    return values if isinstance(values, dict) else {}


def _template_bos(tokenizer: Mapping[str, Any]) -> int | None:
    """Return the id of the special token that the post-processor puts in front of a single text."""
    post = tokenizer.get("post_processor")
    if not isinstance(post, dict):
        return None
    parts = post.get("processors") if post.get("type") == "Sequence" else [post]
    for part in parts if isinstance(parts, list) else []:
        if not isinstance(part, dict) or part.get("type") != "TemplateProcessing":
            continue
        single = part.get("single")
        first = single[0] if isinstance(single, list) and single and isinstance(single[0], dict) else {}
        special = first.get("SpecialToken")
        known = part.get("special_tokens")
        token = known.get(special.get("id")) if isinstance(special, dict) and isinstance(known, dict) else None
        ids = token.get("ids") if isinstance(token, dict) else None
        if isinstance(ids, list) and ids and isinstance(ids[0], int):
            return ids[0]
    return None


def _named_bos(settings: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int | None:
    """Return the id of the `bos_token` of tokenizer_config.json among the added tokens of tokenizer.json."""
    token = settings.get("bos_token")
    name = token.get("content") if isinstance(token, dict) else token
    added = tokenizer.get("added_tokens")
    for each in added if isinstance(added, list) else []:
        if isinstance(each, dict) and each.get("content") == name and isinstance(each.get("id"), int):
            return int(each["id"])
    return None
