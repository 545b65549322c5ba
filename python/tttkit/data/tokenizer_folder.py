"""Read the tokenizer of a Hugging Face model directory as the text of a tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tttkit.data.end_of_text import USUAL_NAMES
from tttkit.data.patterns import EXPRESSIONS, byte_level, pattern_of_expression
from tttkit.data.tokenizer_files import read_object, read_text
from tttkit.errors import DataError, UsageError
from tttkit.storage.hub_cache import refuse_broken_link, snapshot_hint

_PATTERNS = {"GPT2Tokenizer": "gpt2", "Qwen2Tokenizer": "qwen"}
"""Pattern of each class of tokenizers that vocab.json and merges.txt describe completely."""
_CLASSES = {"gpt2": "GPT2Tokenizer"} | dict.fromkeys(
    ("qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next"), "Qwen2Tokenizer"
)
"""Class of the tokenizer by the `model_type` of config.json."""
_SLOW_FILES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.txt", "vocab.json", "tekken.json")
_SPECIAL_KEYS = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
    "additional_special_tokens", "extra_special_tokens",
)  # fmt: skip
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def has_tokenizer(folder: Path) -> bool:
    """Return whether a model directory holds a tokenizer that `tokenizer_json` can read."""
    return any((folder / name).is_file() for name in ("tokenizer.json", *_SLOW_FILES))


def tokenizer_json(folder: Path) -> str:
    """Return the tokenizer of a model directory as the text of a tokenizer.json.

    It is read from tokenizer.json; or from vocab.json and merges.txt, with the pattern of the class that the other
    files name (GPT-2's if none does); or else by transformers. Raises UsageError if the directory holds no tokenizer
    or transformers is missing, DataError for unusable files.
    """
    refuse_broken_link(folder / "tokenizer.json")
    if (folder / "tokenizer.json").is_file():
        return read_text(folder / "tokenizer.json")
    class_name = _class_name(folder)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file() and class_name in _PATTERNS:
        return _from_vocab_and_merges(folder, class_name)
    if class_name == "GPT2Tokenizer" or not any((folder / name).is_file() for name in _SLOW_FILES):
        hint = "expected tokenizer.json, vocab.json and merges.txt, or tokenizer.model"
        raise UsageError(f"no tokenizer in directory {folder}", hint=snapshot_hint(folder) or hint)
    return _from_transformers(folder, class_name)


def missing_tokens(folder: Path) -> dict[str, int]:
    """Return the ids of the tokens that tokenizer_config.json adds to the vocabulary. Raises DataError."""
    try:
        added = read_object(folder / "tokenizer_config.json").get("added_tokens_decoder") or {}
        return {str(token["content"]): int(id_) for id_, token in added.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{folder / 'tokenizer_config.json'} is damaged: added_tokens_decoder: {error}") from error


def _class_name(folder: Path) -> str:
    """Return the class of the tokenizer, without `Fast`; GPT2Tokenizer if no file tells and the files are its files."""
    config = read_object(folder / "config.json")
    named = read_object(folder / "tokenizer_config.json").get("tokenizer_class") or config.get("tokenizer_class")
    if isinstance(named, str):
        return named.removesuffix("Fast")
    model_type = config.get("model_type")
    if isinstance(model_type, str):
        return _CLASSES.get(model_type, f"tokenizer of {model_type}")
    return "GPT2Tokenizer" if (folder / "vocab.json").is_file() or not any(_slow(folder)) else "tokenizer"


def _slow(folder: Path) -> Iterator[str]:
    return (name for name in _SLOW_FILES if (folder / name).is_file())


def _from_vocab_and_merges(folder: Path, class_name: str) -> str:
    """Return a tokenizer.json with the same parts in the same order as the `tokenizers` library writes."""
    vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
    try:
        vocab = json.loads(read_text(vocab_file, "a vocabulary"))
        lines = read_text(merges_file, "a list of merges").removesuffix("\n").split("\n")
        if not isinstance(vocab, dict) or not all(type(id_) is int for id_ in vocab.values()):
            raise DataError(f"{vocab_file} is not a JSON object with an id for each token")
        merges = [line.removesuffix("\r").split(" ") for line in lines if not line.startswith("#version") and line]
        if any(len(merge) != 2 for merge in merges):
            raise DataError(f"a line of {merges_file} is not two tokens")
        added = _added_tokens(folder, vocab)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DataError(f"{folder} holds no readable vocab.json and merges.txt: {error}") from error
    prefix = bool(read_object(folder / "tokenizer_config.json").get("add_prefix_space", False))
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if class_name == "Qwen2Tokenizer" else None,
        "pre_tokenizer": pattern_of_expression(
            EXPRESSIONS[_PATTERNS[class_name]], add_prefix_space=prefix
        ).pre_tokenizer,
        "post_processor": None,
        "decoder": byte_level(use_regex=True, add_prefix_space=True),
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": merges,
        },
    }  # fmt: skip
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _added_tokens(folder: Path, vocab: dict[str, int]) -> list[dict[str, Any]]:
    """Return the added tokens that the files of a directory name, by id. A token without an id gets the next one."""
    config = read_object(folder / "tokenizer_config.json")
    special = [name for name in USUAL_NAMES if name in vocab]
    for content in (config, read_object(folder / "special_tokens_map.json")):
        special += [token for key in _SPECIAL_KEYS for token in _contents(content.get(key))]
    ids = {**read_object(folder / "added_tokens.json"), **missing_tokens(folder)}
    for token in special:
        ids.setdefault(token, vocab.get(token, max([*vocab.values(), *ids.values()], default=-1) + 1))
    flags = {token["content"]: token for token in (config.get("added_tokens_decoder") or {}).values()}
    plain = dict.fromkeys(_FLAGS, False)
    rows = []
    for token, id_ in sorted(ids.items(), key=lambda item: item[1]):
        told = {name: bool(value) for name, value in flags.get(token, {}).items() if name in _FLAGS}
        rows.append({"id": id_, "content": token, **plain, "special": token in special, **told})
    return rows


def _contents(value: Any) -> Iterator[str]:
    """Yield the tokens in a value of a configuration: text, an object with `content`, or several of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        values = [value["content"]] if "content" in value else list(value.values())
        for each in values:
            yield from _contents(each)
    elif isinstance(value, list):
        for each in value:
            yield from _contents(each)


def _from_transformers(folder: Path, class_name: str) -> str:
    """Let transformers convert the files. Raises UsageError if it is missing, DataError if it cannot."""
    what = f"{folder} has no tokenizer.json, but the files of a {class_name} ({', '.join(_slow(folder))})"
    try:
        # transformers imports the first two late, and its errors do not name them.
        import google.protobuf  # noqa: F401
        import sentencepiece  # noqa: F401
        import transformers
    except ImportError as error:
        raise UsageError(
            f"{what}, which needs the package {error.name}",
            hint="pip install 'tttkit[hf]', or save the tokenizer as tokenizer.json",
        ) from error
    transformers.logging.set_verbosity_error()
    try:
        loaded = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        backend = loaded.backend_tokenizer
        return str(backend.to_str())
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{what}, which transformers cannot convert: {reason}", hint="save the tokenizer as tokenizer.json"
        ) from error
