"""Load a tokenizer: a tokenizer.json, the directory of a model, `gpt2`, or `bpe:N` trained here."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from tttkit._rust import Encoder
from tttkit.data.bpe_training import CountWords, train_bpe
from tttkit.data.end_of_text import END_OF_TEXT, find_eos
from tttkit.data.patterns import EXPRESSIONS
from tttkit.data.tokenizer_files import from_hub, read_text
from tttkit.data.tokenizer_folder import missing_tokens, tokenizer_json
from tttkit.errors import DataError, UsageError
from tttkit.storage.hub_cache import refuse_broken_link

SpecialInText = Literal["encode", "split"]
_HUB_NAMES = ("gpt2",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenizerOptions:
    """How a tokenizer is loaded or trained, and how it encodes."""

    eos: str | None = None
    """The end-of-text token; None: the one that the tokenizer's files name."""
    special_in_text: SpecialInText = "encode"
    """What becomes of a text that spells a special token: `encode` gives the id of the token, as `tokenizers` does;
    `split` encodes it as ordinary text."""
    pattern: str | None = None
    """How `bpe:N` cuts text into words: gpt2 (None), llama3, qwen, o200k, or a file."""

    def __post_init__(self) -> None:
        """Raise UsageError for an unknown choice."""
        if self.special_in_text not in get_args(SpecialInText):
            raise UsageError(f"special_in_text must be encode or split, got `{self.special_in_text}`")

    def request(self) -> dict[str, Any]:
        """Return the options that are set. A pattern file is identified by its content."""
        values = {"eos": self.eos, "pattern": self.pattern}
        if self.special_in_text != "encode":
            values["special_in_text"] = self.special_in_text
        if self.pattern is not None and self.pattern not in EXPRESSIONS and Path(self.pattern).is_file():
            values["pattern_sha256"] = _sha256(read_text(Path(self.pattern), "a pattern"))
        return {name: value for name, value in values.items() if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadedTokenizer:
    """A tokenizer as JSON and as an encoder, with its vocabulary size and end-of-text id."""

    json: str
    """tokenizer.json in its shortest form, without truncation, padding and dropout."""
    encoder: Encoder = dataclasses.field(compare=False, repr=False)
    vocab_size: int
    eos_id: int

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of tokenizer.json as it is written to DATA."""
        return _sha256(self.json)

    @property
    def notes(self) -> list[str]:
        """What a user should know about how the tokenizer is used here, in whole sentences."""
        notes = []
        dropout, slow_because = self.encoder.dropout, self.encoder.reason
        if dropout is not None:
            notes.append(
                f"the tokenizer's dropout of {dropout:.4g} is switched off, so that ids are the same each time"
            )
        if slow_because is not None:
            notes.append(slow_because)
        return notes


def load_tokenizer(
    spec: str, count_words: CountWords | None = None, options: TokenizerOptions | None = None
) -> LoadedTokenizer:
    """Load the tokenizer that `spec` names. For `bpe:N`, train one with N tokens on the words that are counted.

    Raises UsageError for an unknown name or option, DataError for a damaged file or a tokenizer whose end-of-text token
    is not clear, ValueError if TTTKIT_SIMD names instructions that this processor lacks.
    """
    options = options or TokenizerOptions()
    if options.pattern is not None and not spec.startswith("bpe:"):
        raise UsageError(f"a pattern is for bpe:N, but the tokenizer {spec} has its own", hint="leave out --pattern")
    folder: Path | None = None
    path = Path(spec)
    if spec.startswith("bpe:"):
        end_of_text = options.eos or END_OF_TEXT
        text = train_bpe(spec, count_words, pattern=options.pattern, end_of_text=end_of_text)
        options = dataclasses.replace(options, eos=end_of_text)
    elif path.is_dir():
        folder, text = path, tokenizer_json(path)
    else:
        file = _file(spec)
        folder, text = file.parent if file.name == "tokenizer.json" else None, read_text(file)
    encoder = _encoder(text, spec, options, missing_tokens(path) if path.is_dir() else {})
    eos_id = find_eos(encoder, spec, folder, options.eos)
    return LoadedTokenizer(json=encoder.json, encoder=encoder, vocab_size=encoder.vocab_size, eos_id=eos_id)


def _file(spec: str) -> Path:
    """Return the file that `spec` names. Raises UsageError."""
    if Path(spec).exists():
        return Path(spec)
    if spec in _HUB_NAMES:
        return from_hub(spec)
    refuse_broken_link(Path(spec))
    raise UsageError(
        f"unknown tokenizer `{spec}`", hint="expected a tokenizer.json, the directory of a model, gpt2, or bpe:N"
    )


def _encoder(text: str, name: str, options: TokenizerOptions, added: dict[str, int]) -> Encoder:
    """Make the encoder of a tokenizer.json, which gets the tokens in `added` that it lacks. Raises DataError."""
    split_special = options.special_in_text == "split"
    try:
        encoder = Encoder(text, split_special=split_special)
        missing = {token: id_ for token, id_ in added.items() if encoder.token_id(token) is None}
        if missing:
            encoder = Encoder(_with_tokens(text, missing), split_special=split_special)
    except DataError as error:
        reason = str(error).removeprefix("cannot load the tokenizer: ")
        where = f"the tokenizer in {name} cannot be used"
        file = Path(name) / "tokenizer.json" if Path(name).is_dir() else Path(name)
        if file.is_file():
            where = f"{file} is not a tokenizer.json that can be used"
        raise DataError(f"{where}: {reason}") from error
    for token, id_ in added.items():
        if encoder.token_id(token) != id_:
            given = encoder.token_id(token)
            raise DataError(f"{name}: tokenizer_config.json gives `{token}` the id {id_}, but its id is {given}")
    return encoder


def _with_tokens(text: str, tokens: dict[str, int]) -> str:
    content = json.loads(text)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = content.setdefault("added_tokens", [])
    added += [{"id": id_, "content": token, **flags} for token, id_ in sorted(tokens.items(), key=lambda item: item[1])]
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def load_decoder(path: Path) -> Callable[[list[int]], str]:
    """Return a function that turns ids into text, including special tokens, for a tokenizer.json. Raises DataError."""
    from tokenizers import Tokenizer

    # The encoder refuses what `tokenizers` panics on.
    tokenizer = Tokenizer.from_str(_encoder(read_text(path), str(path), TokenizerOptions(), {}).json)
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=False))
