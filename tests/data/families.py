"""The families of byte-level tokenizers: pre-tokenizers as a tokenizer.json has them, with small vocabularies."""

from __future__ import annotations

import functools
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

END = "<|endoftext|>"
VOCAB_SIZE = 900


def split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    """Return a step that splits at an expression."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def byte_level(use_regex: bool = False, add_prefix_space: bool = False) -> dict[str, Any]:
    """Return the step that turns bytes into characters."""
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def digits(individual: bool) -> dict[str, Any]:
    """Return the step that separates numbers."""
    return {"type": "Digits", "individual_digits": individual}


CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + REST
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    "|".join(rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}{first}{LOWER}{second}{CONTRACTIONS}?" for first, second in ("*+", "+*"))
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
    + REST
)
TIKTOKEN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + REST
DEEPSEEK = [
    split(r"\p{N}{1,3}"),
    split("[一-龥\u3040-ゟ゠-ヿ]+"),
    split(
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        r"| ?[\p{P}\p{S}]+[\r\n]*" + REST
    ),
]
DEEPSEEK_CODER = [
    split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-\ud7ff]+"), digits(True),
]  # fmt: skip
FALCON = [{"type": "Punctuation", "behavior": "Contiguous"}, byte_level(True), digits(False), split("[0-9][0-9][0-9]")]
BLOOM = [split(r" ?[^(\s|[.,!?…。，、।۔،])]+")]
NFC = {"type": "NFC"}

FAMILIES: dict[str, tuple[list[dict[str, Any]], dict[str, Any] | None]] = {
    "GPT-2": ([byte_level(True)], None),
    "GPT-2 with NFC": ([byte_level(True)], NFC),
    "GPT-2 with a space before": ([byte_level(True, True)], None),
    "cl100k, Llama-3, GLM": ([split(CL100K), byte_level()], None),
    "Phi-4": ([split(CL100K, "Removed", True), byte_level()], None),
    "cl100k as tiktoken writes it": ([split(TIKTOKEN), byte_level()], None),
    "Qwen 2": ([split(CL100K.replace("{1,3}", "")), byte_level()], NFC),
    "Qwen 3.5": ([split(QWEN35), byte_level()], NFC),
    "o200k": ([split(O200K), byte_level()], None),
    "tekken": ([split(O200K.replace(CONTRACTIONS + "?", "").replace("{1,3}", "")), byte_level()], None),
    "DeepSeek 3": ([*DEEPSEEK, byte_level()], None),
    "DeepSeek Coder": ([*DEEPSEEK_CODER, byte_level()], None),
    "StarCoder": ([digits(True), byte_level(True)], None),
    "Falcon": (FALCON, None),
    "BLOOM": ([*BLOOM, byte_level()], None),
    "other behaviors": ([split(r"\s", "MergedWithPrevious"), split(r"\p{P}+", "MergedWithNext"), byte_level()], NFC),
}  # fmt: skip


def training_texts() -> Iterator[str]:
    """Yield some source code of the Python library and a little of everything else."""
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:8]
    yield from (path.read_text(encoding="utf-8") for path in paths)
    yield "It's 12,345 o'clock; don't — “we'll” see. Ünïcödé, 東京は日本の首都。 Привет, мир!\r\n\n  ½ 😀 " * 50


@functools.cache
def family_json(name: str) -> str:
    """Return the tokenizer.json of a family, with a vocabulary trained on little text."""
    steps, normalizer = FAMILIES[name]
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    content = json.loads(tokenizer.to_str())
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    content["normalizer"] = normalizer
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.add_tokens([AddedToken("<|pad|>", lstrip=True, rstrip=True, special=True)])
    return tokenizer.to_str()
