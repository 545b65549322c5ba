"""Read the files of a tokenizer, with limits and with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tttkit.errors import DataError, UsageError

MAX_BYTES = 128 << 20
"""Largest file that is read. The largest tokenizer.json in use has about 35 MB."""
_BOM = "\ufeff"


def read_text(path: Path, what: str = "a tokenizer.json") -> str:
    """Return the text of a file that should be `what`. Raises DataError if it cannot be read or is too large."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"{path} is not {what}: it has {size >> 20:,} MB, more than {MAX_BYTES >> 20}")
        with path.open("rb") as file:
            # A pipe has no size.
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise DataError(f"{path} is not {what}: it has more than {MAX_BYTES >> 20} MB")
        return data.decode().removeprefix(_BOM)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not {what}: {error}") from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or an empty one if there is no such file. Raises DataError."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(read_text(path, "a JSON object"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a JSON object: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object")
    return content


def special_tokens(path: Path) -> list[tuple[str, int]]:
    """Return the special tokens of a tokenizer.json with their ids. Raises DataError."""
    try:
        added = read_object(path).get("added_tokens") or []
        return [(str(token["content"]), int(token["id"])) for token in added if token.get("special")]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a tokenizer.json: added_tokens: {error}") from error


def from_hub(name: str) -> Path:
    """Return the path of the tokenizer.json of a model on the hub. Raises UsageError if it cannot be loaded."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    from tttkit.data.hub import stay_offline_if_unreachable

    stay_offline_if_unreachable()
    try:
        return Path(hf_hub_download(name, "tokenizer.json"))
    except (OSError, HfHubHTTPError) as error:
        raise UsageError(
            f"cannot load tokenizer `{name}` from the hub: {type(error).__name__}",
            hint="without a network, name a tokenizer.json or the directory of a model",
        ) from error
