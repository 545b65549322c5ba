"""Continue prompts as text: the tokenizer, stop strings, and pieces of text that can be shown immediately."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from tttkit.data.encode import encode_all
from tttkit.data.tokenizer import load_tokenizer
from tttkit.data.tokenizer_folder import has_tokenizer
from tttkit.errors import DataError, UsageError
from tttkit.infer.decoder import Decoder
from tttkit.infer.sampling import Sampling
from tttkit.models.generation import GenerativeModel

FinishReason = Literal["length", "end-of-text", "stop"]
_UNFINISHED = "\ufffd"
"""A tokenizer decodes bytes to this if they are not a whole character yet."""
_CONTEXT = 4
"""Tokens before the text that are decoded with it."""


@dataclass(kw_only=True)
class Continuation:
    """The continuation of one prompt; `text` ends before the end-of-text token or the stop string."""

    row: int
    """Index of the prompt."""
    prompt: str
    prompt_ids: list[int]
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: FinishReason | None = None


class TextTokenizer:
    """Conversion between text and ids, with the tokenizer that the model was trained with."""

    def __init__(self, spec: str, vocab_size: int) -> None:
        """Load `spec` (a tokenizer.json, …). Raises UsageError, or DataError if the model knows fewer tokens."""
        loaded = load_tokenizer(spec)
        if loaded.vocab_size > vocab_size:
            raise DataError(
                f"the tokenizer {spec} has {loaded.vocab_size} tokens, but the model knows {vocab_size}",
                hint="name the tokenizer that the model was trained with: --tokenizer PATH",
            )
        self._tokenizer = Tokenizer.from_str(loaded.json)
        self._encoder = loaded.encoder
        self.eos_id = loaded.eos_id

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text; an empty text becomes the end-of-text token, after which a new document begins.

        Raises UsageError if the text cannot be encoded as UTF-8, which input from a terminal or a pipe may cause.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the text to continue is not UTF-8, from character {error.start + 1} on") from error
        return self._encoder.encode([text], 1)[0].tolist() or [self.eos_id]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of several texts."""
        return encode_all(self._encoder, texts)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included. Ids that the tokenizer does not know have no text."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))


def find_tokenizer(directory: Path, config: dict[str, Any]) -> str:
    """Return what names the tokenizer of a model directory. Raises UsageError if there is none."""
    if not has_tokenizer(directory):
        raise UsageError(
            f"{directory} holds no tokenizer (model_type {config.get('model_type', 'tttkit')})",
            hint="name the tokenizer that the model was trained with: --tokenizer PATH",
        )
    return str(directory)


class TextStream:
    """The growing text of one row: only whole characters, up to a stop string."""

    def __init__(self, tokenizer: TextTokenizer, context: Sequence[int], stops: Sequence[str]) -> None:
        """Take the ids before the text as `context`: some tokens decode differently at the start of a text."""
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stops if stop]
        self._ids = list(context[-_CONTEXT:])
        self._before, self._read = 0, len(self._ids)
        self._held = ""
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; return the new text that no later token can change."""
        self._ids.append(token)
        known = self._tokenizer.decode(self._ids[self._before : self._read])
        text = self._tokenizer.decode(self._ids[self._before :])
        if text.endswith(_UNFINISHED):
            return ""
        self._before, self._read = self._read, len(self._ids)
        return self._release(text[len(known) :])

    def close(self) -> str:
        """Return the rest of the text; no token follows."""
        if self.stopped:
            return ""
        known = self._tokenizer.decode(self._ids[self._before : self._read])
        rest = self._held + self._tokenizer.decode(self._ids[self._before :])[len(known) :]
        self._held = ""
        self.text += rest
        return rest

    def _release(self, new: str) -> str:
        """Return new text up to a stop string, without an end that may be the beginning of a stop string."""
        waiting = self._held + new
        starts = [start for start in (waiting.find(stop) for stop in self._stops) if start >= 0]
        self.stopped = bool(starts)
        cut = min(starts) if starts else len(waiting) - self._num_held(waiting)
        self._held = waiting[cut:]
        self.text += waiting[:cut]
        return waiting[:cut]

    def _num_held(self, text: str) -> int:
        """Return the length of the longest end of a text that is the beginning of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        sizes = range(min(longest, len(text)), 0, -1)
        return next((size for size in sizes if any(stop.startswith(text[-size:]) for stop in self._stops)), 0)


def continue_texts(
    model: GenerativeModel,
    tokenizer: TextTokenizer,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    max_tokens: int,
    stops: Sequence[str] = (),
) -> Iterator[tuple[Continuation, str]]:
    """Continue each prompt up to end-of-text, a stop string or `max_tokens`; yield new pieces of text immediately.

    Each item is the continuation of a row and its newest piece, which may be empty; the last item of a row has a
    finish_reason. Raises UsageError for a prompt that is not UTF-8, ValueError and NumericalError as `Decoder` does.
    """
    continuations = [
        Continuation(row=row, prompt=prompt, prompt_ids=_prompt_ids(model, tokenizer, prompt))
        for row, prompt in enumerate(prompts)
    ]
    end_ids = model.end_ids | {tokenizer.eos_id}
    streams = [TextStream(tokenizer, each.prompt_ids, stops) for each in continuations]
    decoder = Decoder(model, [each.prompt_ids for each in continuations], sampling, max_tokens=max_tokens)
    while tokens := decoder.next_tokens():
        for row, token in tokens.items():
            each, stream = continuations[row], streams[row]
            each.ids.append(token)
            piece = "" if token in end_ids else stream.push(token)
            if token in end_ids:
                each.finish_reason = "end-of-text"
            elif stream.stopped:
                each.finish_reason = "stop"
            elif row not in decoder.active:
                each.finish_reason = "length"
            if each.finish_reason is not None:
                decoder.finish(row)
                piece += stream.close()
            each.text = stream.text
            yield each, piece


def _prompt_ids(model: GenerativeModel, tokenizer: TextTokenizer, prompt: str) -> list[int]:
    """Return the ids of a prompt, after BOS if the model was trained with one."""
    if not model.adds_bos or model.bos_id is None:
        return tokenizer.encode(prompt)
    return [model.bos_id, *(tokenizer.encode(prompt) if prompt else [])]
