"""From prompts as text to continuations as text: tokenizer, stop strings, pieces that can be shown as they come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from tttkit.data.tokenizer import load_tokenizer
from tttkit.errors import DataError, UsageError
from tttkit.infer.decoder import Decoder
from tttkit.infer.sampling import Sampling
from tttkit.models import LanguageModel

FinishReason = Literal["length", "end-of-text", "stop"]
_UNFINISHED = "\ufffd"
"""What a decoder shows for bytes that are not a whole character yet."""
_CONTEXT = 4


@dataclass(kw_only=True)
class Continuation:
    """What a prompt was continued with; `text` is without end-of-text token and stop string."""

    row: int
    """Index of the prompt."""
    prompt: str
    prompt_ids: list[int]
    ids: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: FinishReason | None = None


class TextTokenizer:
    """Text to ids and back, as the model was trained on it."""

    def __init__(self, spec: str, vocab_size: int) -> None:
        """Load `spec` (a tokenizer.json, …). Raises UsageError, or DataError where the model has too few tokens."""
        loaded = load_tokenizer(spec)
        if loaded.vocab_size > vocab_size:
            raise DataError(
                f"the tokenizer {spec} has {loaded.vocab_size} tokens, the model knows {vocab_size}",
                hint="name the tokenizer that it was trained with: --tokenizer",
            )
        self._tokenizer = Tokenizer.from_str(loaded.json)
        self.eos_id = loaded.eos_id

    def encode(self, text: str) -> list[int]:
        """Ids of a text; an empty one is the end-of-text token, after which a new document begins.

        Raises UsageError for what a terminal or a pipe gave that is no text.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"the text to continue is not UTF-8, from character {error.start + 1} on") from error
        return self._tokenizer.encode(text, add_special_tokens=False).ids or [self.eos_id]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens shown. Ids that the tokenizer lacks have no text."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))


def find_tokenizer(directory: Path, config: dict[str, Any]) -> str:
    """The tokenizer.json of a model directory. Raises UsageError where it has none."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise UsageError(
            f"{directory} holds no tokenizer.json (model_type {config.get('model_type', 'tttkit')})",
            hint="name the tokenizer that the model was trained with: --tokenizer PATH",
        )
    return str(path)


class TextStream:
    """The text of one row as it grows: whole characters only, cut at a stop string."""

    def __init__(self, tokenizer: TextTokenizer, context: Sequence[int], stops: Sequence[str]) -> None:
        """`context` are the ids before the text: some tokens have another text at its start than inside."""
        self._tokenizer = tokenizer
        self._stops = [stop for stop in stops if stop]
        self._ids = list(context[-_CONTEXT:])
        self._before, self._read = 0, len(self._ids)
        self._held = ""
        self.text = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token; returns the text that is certain now."""
        self._ids.append(token)
        known = self._tokenizer.decode(self._ids[self._before : self._read])
        found = self._tokenizer.decode(self._ids[self._before :])
        if found.endswith(_UNFINISHED):
            return ""
        self._before, self._read = self._read, len(self._ids)
        return self._settle(found[len(known) :])

    def close(self) -> str:
        """The rest of the text, once no token follows."""
        if self.stopped:
            return ""
        known = self._tokenizer.decode(self._ids[self._before : self._read])
        rest = self._held + self._tokenizer.decode(self._ids[self._before :])[len(known) :]
        self._held = ""
        self.text += rest
        return rest

    def _settle(self, new: str) -> str:
        """Give out new text, but nothing from a stop string on, nor what may become the start of one."""
        waiting = self._held + new
        found = [at for at in (waiting.find(stop) for stop in self._stops) if at >= 0]
        self.stopped = bool(found)
        cut = min(found) if found else len(waiting) - self._num_held(waiting)
        self._held = waiting[cut:]
        self.text += waiting[:cut]
        return waiting[:cut]

    def _num_held(self, text: str) -> int:
        """Length of the longest end of a text that a stop string begins with."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        sizes = range(min(longest, len(text)), 0, -1)
        return next((size for size in sizes if any(stop.startswith(text[-size:]) for stop in self._stops)), 0)


def continue_texts(
    model: LanguageModel,
    tokenizer: TextTokenizer,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    max_tokens: int,
    stops: Sequence[str] = (),
) -> Iterator[tuple[Continuation, str]]:
    """Continue each prompt to end-of-text, a stop string or `max_tokens`; yields new pieces of text as they come.

    Each item is a row's continuation so far and its newest piece, which may be empty; the last item of a row has a
    finish_reason. Raises UsageError for what is no text, ValueError and NumericalError as `Decoder` does.
    """
    found = [
        Continuation(row=row, prompt=prompt, prompt_ids=tokenizer.encode(prompt)) for row, prompt in enumerate(prompts)
    ]
    streams = [TextStream(tokenizer, each.prompt_ids, stops) for each in found]
    decoder = Decoder(model, [each.prompt_ids for each in found], sampling, max_tokens=max_tokens)
    while tokens := decoder.next_tokens():
        for row, token in tokens.items():
            each, stream = found[row], streams[row]
            each.ids.append(token)
            piece = "" if token == tokenizer.eos_id else stream.push(token)
            if token == tokenizer.eos_id:
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
