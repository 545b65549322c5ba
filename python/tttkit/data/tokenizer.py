"""Load a tokenizer: a tokenizer.json, a directory with vocab.json and merges.txt, `gpt2`, or `bpe:N` trained here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tttkit._rust import Encoder
from tttkit.data.hub import stay_offline_if_unreachable
from tttkit.errors import DataError, UsageError

END_OF_TEXT = "<|endoftext|>"
EOS_NAMES = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "[EOS]")
MIN_BPE_VOCAB = 257
"""Smallest vocabulary of `bpe:N`: 256 bytes and the end-of-text token."""
_HUB_NAMES = ("gpt2",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedTokenizer:
    """A tokenizer as JSON and as an encoder, with its vocabulary size and end-of-text id."""

    json: str
    """tokenizer.json in its shortest form, without truncation or padding."""
    encoder: Encoder = dataclasses.field(compare=False, repr=False)
    vocab_size: int
    eos_id: int

    @property
    def sha256(self) -> str:
        """SHA-256 of tokenizer.json as it is written to DATA."""
        return hashlib.sha256(self.json.encode()).hexdigest()


def load_tokenizer(spec: str, training_texts: Callable[[], Iterator[str]] | None = None) -> LoadedTokenizer:
    """Load the tokenizer that `spec` names. For `bpe:N`, train a tokenizer with N tokens on `training_texts`.

    Raises UsageError for an unknown name, DataError for a damaged file or a tokenizer without an end-of-text token,
    ValueError if TTTKIT_SIMD names instructions that this processor lacks.
    """
    path = Path(spec)
    if spec.startswith("bpe:"):
        return _describe(_encoder(_train_bpe(spec, training_texts), spec), spec)
    if path.is_file():
        return _describe(_read_file(path), spec)
    if path.is_dir():
        return _describe(_from_directory(path), spec)
    if spec in _HUB_NAMES:
        return _describe(_read_file(_from_hub(spec)), spec)
    raise UsageError(
        f"unknown tokenizer `{spec}`",
        hint="expected a tokenizer.json, a directory with vocab.json and merges.txt, gpt2, or bpe:N",
    )


def _encoder(tokenizer_json: str, name: str | Path) -> Encoder:
    try:
        return Encoder(tokenizer_json)
    except DataError as error:
        raise DataError(f"{name} is not a tokenizer.json: {error}") from error


def _read_file(path: Path) -> Encoder:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a tokenizer.json: {error}") from error
    return _encoder(text, path)


def _from_directory(path: Path) -> Encoder:
    """Read tokenizer.json if the directory has it, or else vocab.json and merges.txt in the format of GPT-2."""
    if (path / "tokenizer.json").is_file():
        return _read_file(path / "tokenizer.json")
    files = path / "vocab.json", path / "merges.txt"
    for file in files:
        if not file.is_file():
            raise UsageError(f"no {file.name} in tokenizer directory {path}")
    try:
        vocab, lines = (file.read_text(encoding="utf-8-sig") for file in files)
        return Encoder(_byte_level_json(json.loads(vocab), lines.removesuffix("\n").split("\n")))
    except (OSError, ValueError, TypeError, DataError) as error:
        raise DataError(f"{path} holds no readable vocab.json and merges.txt: {error}") from error


def _byte_level_json(vocab: Any, lines: list[str]) -> str:
    """Return a tokenizer.json with the same parts in the same order as the `tokenizers` library writes."""
    if not isinstance(vocab, dict):
        raise DataError("the vocabulary is not a JSON object")
    merges = [line.split(" ") for line in lines if not line.startswith("#version")]
    if any(len(merge) != 2 for merge in merges):
        raise DataError("a line of merges.txt is not two tokens")
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocab[name], "content": name, **plain} for name in EOS_NAMES if name in vocab],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "add_prefix_space": False},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": dict(sorted(vocab.items(), key=lambda item: item[1])),
            "merges": merges,
        },
    }  # fmt: skip
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    stay_offline_if_unreachable()
    try:
        return Path(hf_hub_download(name, "tokenizer.json"))
    except (OSError, HfHubHTTPError) as error:
        raise UsageError(
            f"cannot load tokenizer `{name}` from the hub: {type(error).__name__}",
            hint="without a network, name a tokenizer.json or a directory with vocab.json and merges.txt",
        ) from error


def _train_bpe(spec: str, training_texts: Callable[[], Iterator[str]] | None) -> str:
    size = spec.removeprefix("bpe:")
    if not size.isdecimal() or int(size) < MIN_BPE_VOCAB:
        raise UsageError(f"expected bpe:N with N of at least {MIN_BPE_VOCAB}, got `{spec}`")
    if training_texts is None:
        raise UsageError(f"`{spec}` needs a source to train on", hint="name a tokenizer.json")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=int(size),
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    return tokenizer.to_str(pretty=False)


def _describe(encoder: Encoder, spec: str) -> LoadedTokenizer:
    ids = (encoder.token_id(name) for name in EOS_NAMES)
    eos_id = next((id_ for id_ in ids if id_ is not None), None)
    if eos_id is None:
        raise DataError(
            f"tokenizer {spec} has no end-of-text token", hint=f"add one of {', '.join(EOS_NAMES)} to its vocabulary"
        )
    return LoadedTokenizer(json=encoder.json, encoder=encoder, vocab_size=encoder.vocab_size, eos_id=eos_id)


def load_decoder(path: Path) -> Callable[[list[int]], str]:
    """Return a function that turns ids into text, including special tokens, for a tokenizer.json. Raises DataError."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8-sig"))
    except Exception as error:
        raise DataError(f"{path} is not a tokenizer.json: {error}") from error
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))
