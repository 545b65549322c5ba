"""Cached decoding of several prompts at once, of any lengths and without padding.

All rows are always at the same position. A row reads the next token of its prompt, or the last drawn token after the
prompt, so its state depends on its own text alone. While every row has more prompt tokens to read, the model reads
several at once. Apart from the model's state, memory does not depend on the length. Shapes: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tttkit.errors import NumericalError, UsageError
from tttkit.infer.sampling import Draws, Sampling, probabilities
from tttkit.models.generation import GenerativeModel

SEGMENT_TOKENS = 2048
"""Maximum number of tokens, over all rows, that one call of the model reads."""


class Decoder:
    """Draws the continuation of each prompt token by token; finished rows leave the batch."""

    def __init__(
        self, model: GenerativeModel, prompts: Sequence[Sequence[int]], sampling: Sampling, *, max_tokens: int
    ) -> None:
        """Start from the initial state.

        Raises ValueError for no or empty prompts and for unknown ids, UsageError for texts that are longer than the
        model can read.
        """
        if not prompts:
            raise ValueError("prompts must hold at least one prompt")
        vocab_size = model.vocab_size
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise ValueError(f"prompt {index} is empty: it needs at least one token")
            if min(prompt) < 0 or max(prompt) >= vocab_size:
                raise ValueError(
                    f"prompt {index} must have ids in 0 … {vocab_size - 1} (vocab_size {vocab_size}), "
                    f"got {min(prompt)} … {max(prompt)}"
                )
        if max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
        # the last token that is drawn is not read
        longest = max(map(len, prompts)) + max_tokens - 1
        if model.max_positions is not None and longest > model.max_positions:
            raise UsageError(
                f"the {model.name} model reads at most {model.max_positions} tokens, but prompt and continuation have "
                f"{longest}",
                hint="shorten the prompt, or draw fewer tokens: --max-tokens N",
            )
        self.texts = [list(prompt) for prompt in prompts]
        self.active = list(range(len(prompts)))
        self._model = model
        self._sampling = sampling
        self._draws = Draws(sampling.seed, len(prompts))
        self._limits = [len(prompt) + max_tokens for prompt in prompts]
        self._state = model.initial_state(len(prompts))
        self._kept = list(self.active)

    @torch.inference_mode()
    def next_tokens(self) -> dict[int, int]:
        """Read until some rows have read all their tokens, and draw a token for each of these rows.

        Return ids by row, empty if all rows are finished. A row that reaches `max_tokens` is no longer `active`. Raises
        NumericalError if the logits are not finite.
        """
        if not self.active:
            return {}
        ready: list[int] = []
        while not ready:
            logits = self._read()
            ready = [row for row in self.active if len(self.texts[row]) == self._state.position]
        logits = logits[[self.active.index(row) for row in ready]]
        if not logits.isfinite().all():
            raise NumericalError(
                f"the model's logits at position {self._state.position} are not finite",
                hint="its weights hold NaN or infinity, or its fast weights grew without bound",
            )
        picked = self._draws.pick(probabilities(logits, self._sampling), ready)
        for row, token in zip(ready, picked, strict=True):
            self.texts[row].append(token)
            if len(self.texts[row]) == self._limits[row]:
                self.finish(row)
        return dict(zip(ready, picked, strict=True))

    def finish(self, row: int) -> None:
        """Draw no more tokens for this row."""
        if row in self.active:
            self.active.remove(row)

    def _read(self) -> Tensor:
        """Read the tokens that all active rows have, at most one segment, and return the last logits (R, V)."""
        if self._kept != self.active:
            self._state = self._state.select([self._kept.index(row) for row in self.active])
            self._kept = list(self.active)
        start = self._state.position
        shortest = min(len(self.texts[row]) for row in self.active)
        stop = min(shortest, start + max(1, SEGMENT_TOKENS // len(self.active)))
        ids = torch.tensor([self.texts[row][start:stop] for row in self.active], device=self._model.device)
        logits, self._state = self._model.next_logits(ids, self._state)
        return logits
