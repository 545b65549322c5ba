"""Find the end-of-text token of a tokenizer: as it is asked for, as its model's files say, or by its usual name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tttkit._rust import Encoder
from tttkit.data.tokenizer_files import read_object
from tttkit.errors import DataError, UsageError

END_OF_TEXT = "<|endoftext|>"
"""The end-of-text token of a tokenizer that is trained here."""
USUAL_NAMES = (
    END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "[EOS]", "<｜end▁of▁sentence｜>", "<EOS_TOKEN>",
)  # fmt: skip
"""Names that mean nothing else. `<|im_end|>` and `<|eot_id|>` end a turn of a conversation, `[SEP]` a sentence."""
_MOST_CANDIDATES = 12
_ASK = "name it with --eos TOKEN"


def find_eos(encoder: Encoder, name: str, folder: Path | None, wanted: str | None) -> int:
    """Return the id of the end-of-text token of tokenizer `name`.

    `wanted` names it. Without it, the first file of a model in `folder` that names exactly one decides, and then the
    usual names, if the vocabulary has only one of them. Raises UsageError if `wanted` is not in the vocabulary,
    DataError if there is no token or several could be meant.
    """
    if wanted is not None:
        eos_id = encoder.token_id(wanted)
        if eos_id is None:
            raise UsageError(f"tokenizer {name} has no token `{wanted}`", hint=_candidates(encoder))
        return eos_id
    named: set[int] = set()
    for ids in _named_ids(encoder, folder) if folder else ():
        if len(ids) == 1:
            return ids.pop()
        named = named or ids
    special = dict(encoder.special_tokens)
    known = {token: encoder.token_id(token) for token in USUAL_NAMES}
    for ids in (
        {special[token] for token in USUAL_NAMES if token in special},
        {eos_id for eos_id in known.values() if eos_id is not None},
    ):
        meant = ids & named if named else ids
        if len(meant) == 1:
            return meant.pop()
        if meant:
            break
    what = "several tokens that may be" if named or meant else "no token that is known to be"
    raise DataError(f"tokenizer {name} has {what} the end-of-text token", hint=f"{_ASK}; {_candidates(encoder)}")


def _named_ids(encoder: Encoder, folder: Path) -> Iterator[set[int]]:
    """Yield the ids of known tokens that each file of a model names as its end-of-text token."""
    for file, key in (
        ("tokenizer_config.json", "eos_token"), ("special_tokens_map.json", "eos_token"),
        ("generation_config.json", "eos_token_id"), ("config.json", "eos_token_id"), ("manifest.json", "eos_id"),
    ):  # fmt: skip
        content = read_object(folder / file)
        values = content.get(key)
        if values is None and isinstance(content.get("text_config"), dict):
            values = content["text_config"].get(key)
        ids = {_id(encoder, value) for value in (values if isinstance(values, list) else [values])}
        yield {eos_id for eos_id in ids if eos_id is not None}


def _id(encoder: Encoder, value: Any) -> int | None:
    """Return the id of a token that is named by text, by an object with its `content`, or by its id."""
    if isinstance(value, dict):
        value = value.get("content")
    if isinstance(value, str):
        return encoder.token_id(value)
    is_id = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < encoder.vocab_size
    return value if is_id else None


def _candidates(encoder: Encoder) -> str:
    names = [token for token, _ in encoder.special_tokens]
    if not names:
        return "it marks no token as special; any token of its vocabulary may be named"
    more = f" and {len(names) - _MOST_CANDIDATES} more" if len(names) > _MOST_CANDIDATES else ""
    return f"its special tokens are {', '.join(names[:_MOST_CANDIDATES])}{more}"
