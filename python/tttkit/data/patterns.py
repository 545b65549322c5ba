"""The patterns that cut text into words before a byte-level BPE: by name, or from a file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tttkit.data.tokenizer_files import read_text
from tttkit.errors import DataError, UsageError

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""OpenAI, GPT-2, `encoder.py`."""
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_ENDS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
EXPRESSIONS = {
    "gpt2": GPT2,
    "llama3": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_ENDS}",
    "qwen": rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_ENDS}",
    "o200k": (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
        rf"{_CONTRACTIONS}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
"""The expressions of tokenizers in use, as their tokenizer.json files spell them."""
DEFAULT = "gpt2"
_MAX_EXPRESSION_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pattern:
    """How text is cut into words."""

    expressions: tuple[str, ...]
    """Regular expressions; each cuts the words of the one before. Matches and the text between them are words."""
    pre_tokenizer: dict[str, Any]
    """The same as the section of this name in a tokenizer.json."""


def byte_level(*, use_regex: bool, add_prefix_space: bool = False) -> dict[str, Any]:
    """Return the pre-tokenizer that spells bytes as characters, and with `use_regex` cuts with the GPT-2 pattern."""
    return {
        "type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex,
    }  # fmt: skip


def pattern_of_expression(expression: str, *, add_prefix_space: bool = False) -> Pattern:
    """Return the pattern of one regular expression."""
    if expression == GPT2:
        section = byte_level(use_regex=True, add_prefix_space=add_prefix_space)
    else:
        split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
        ends = byte_level(use_regex=False, add_prefix_space=add_prefix_space)
        section = {"type": "Sequence", "pretokenizers": [split, ends]}
    return Pattern(expressions=(expression,), pre_tokenizer=section)


def read_pattern(text: str) -> Pattern:
    """Return the pattern with this name, or of this file: a regular expression, or a tokenizer.json that has one.

    Raises UsageError for an unknown name, DataError for a file without a pattern that can be taken.
    """
    if text in EXPRESSIONS:
        return pattern_of_expression(EXPRESSIONS[text])
    path = Path(text)
    if not path.is_file():
        raise UsageError(
            f"unknown pattern `{text}`", hint=f"expected {', '.join(EXPRESSIONS)}, or a file with a regular expression"
        )
    content = read_text(path, "a pattern")
    if content.lstrip().startswith("{"):
        return _of_tokenizer(content, path)
    expression = content.removesuffix("\n").removesuffix("\r")
    if not expression or len(expression) > _MAX_EXPRESSION_BYTES:
        raise DataError(f"{path} holds no regular expression of 1 to {_MAX_EXPRESSION_BYTES:,} characters")
    return pattern_of_expression(expression)


def _of_tokenizer(content: str, path: Path) -> Pattern:
    try:
        section = json.loads(content)["pre_tokenizer"]
        steps = section["pretokenizers"] if section["type"] == "Sequence" else [section]
        *cuts, last = steps
        expressions = [_expression(step) for step in cuts]
        if last["type"] != "ByteLevel" or last["add_prefix_space"]:
            raise DataError(f"it ends with {last['type']}, not with ByteLevel without a prefix space")
        if last.get("use_regex", True):
            expressions.append(GPT2)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = str(error) if isinstance(error, DataError) else "it has no pre_tokenizer of a byte-level BPE"
        raise DataError(f"no pattern can be taken from {path}: {reason}") from error
    return Pattern(expressions=tuple(expressions), pre_tokenizer=section)


def _expression(step: dict[str, Any]) -> str:
    """Return the regular expression of one step that cuts text. Raises DataError, KeyError."""
    if step["type"] == "Digits":
        return r"\p{N}" if step["individual_digits"] else r"\p{N}+"
    if step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        return str(step["pattern"]["Regex"])
    raise DataError(f"its step {step['type']} is not a Split at the matches of an expression")
