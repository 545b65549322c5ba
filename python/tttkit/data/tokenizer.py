"""T to a tokenizer: a tokenizer.json, a directory with vocab.json and merges.txt, `gpt2`, or `bpe:N` trained here."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tttkit.data.hub import stay_offline_if_unreachable
from tttkit.errors import DataError, UsageError

END_OF_TEXT = "<|endoftext|>"
EOS_NAMES = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "[EOS]")
MIN_BPE_VOCAB = 257
_HUB_NAMES = ("gpt2",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedTokenizer:
    """A tokenizer as text, and the three numbers the rest needs to know."""

    json: str
    vocab_size: int
    eos_id: int

    @property
    def sha256(self) -> str:
        """SHA-256 of tokenizer.json as it is written to DATA."""
        return hashlib.sha256(self.json.encode()).hexdigest()


def load_tokenizer(spec: str, training_texts: Callable[[], Iterator[str]] | None = None) -> LoadedTokenizer:
    """Load, or train for `bpe:N`, the tokenizer that `spec` names.

    Raises UsageError for an unknown name, DataError for a damaged file or a tokenizer without an end-of-text token.
    """
    path = Path(spec)
    if spec.startswith("bpe:"):
        return _describe(_train_bpe(spec, training_texts), spec)
    if path.is_file():
        return _describe(_read_tokenizer(path), spec)
    if path.is_dir():
        return _from_directory(path)
    if spec in _HUB_NAMES:
        return _describe(_from_hub(spec), spec)
    raise UsageError(
        f"unknown tokenizer `{spec}`",
        hint="a tokenizer.json, a directory with vocab.json and merges.txt, gpt2, or bpe:N",
    )


def _read_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:
        raise DataError(f"{path} is not a tokenizer.json: {error}") from error


def _from_directory(path: Path) -> LoadedTokenizer:
    """vocab.json and merges.txt as GPT-2 has them; a tokenizer.json beside them is preferred."""
    if (path / "tokenizer.json").is_file():
        return load_tokenizer(str(path / "tokenizer.json"))
    vocab, merges = path / "vocab.json", path / "merges.txt"
    for file in (vocab, merges):
        if not file.is_file():
            raise UsageError(f"no {file.name} in tokenizer directory {path}")
    try:
        tokenizer = _byte_level(models.BPE.from_file(str(vocab), str(merges)))
    except Exception as error:
        raise DataError(f"{path} holds no readable vocab.json and merges.txt: {error}") from error
    present = [name for name in EOS_NAMES if tokenizer.token_to_id(name) is not None]
    tokenizer.add_special_tokens(present)
    return _describe(tokenizer, str(path))


def _from_hub(name: str) -> Tokenizer:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    stay_offline_if_unreachable()
    try:
        return _read_tokenizer(Path(hf_hub_download(name, "tokenizer.json")))
    except (OSError, HfHubHTTPError) as error:
        raise UsageError(
            f"cannot load tokenizer `{name}` from the hub: {type(error).__name__}",
            hint="without a network, name a tokenizer.json or a directory with vocab.json and merges.txt",
        ) from error


def _train_bpe(spec: str, training_texts: Callable[[], Iterator[str]] | None) -> Tokenizer:
    size = spec.removeprefix("bpe:")
    if not size.isdecimal() or int(size) < MIN_BPE_VOCAB:
        raise UsageError(f"expected bpe:N with N of at least {MIN_BPE_VOCAB}, got `{spec}`")
    if training_texts is None:
        raise UsageError(f"`{spec}` needs a source to be trained on", hint="name a tokenizer.json")
    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=int(size),
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    return tokenizer


def _byte_level(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _describe(tokenizer: Tokenizer, spec: str) -> LoadedTokenizer:
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = (tokenizer.token_to_id(name) for name in EOS_NAMES)
    eos_id = next((found for found in ids if found is not None), None)
    if eos_id is None:
        raise DataError(
            f"tokenizer {spec} has no end-of-text token", hint=f"add one of {', '.join(EOS_NAMES)} to its vocabulary"
        )
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    return LoadedTokenizer(json=tokenizer.to_str(pretty=False), vocab_size=max(vocab.values()) + 1, eos_id=eos_id)


def load_decoder(path: Path) -> Callable[[list[int]], str]:
    """Function from ids to text, special tokens shown, for the tokenizer.json at `path`. Raises DataError."""
    tokenizer = _read_tokenizer(path)
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))
