"""Texts continued by a model of transformers, through the model's own cache or, where that is wrong, without one.

Caches have many classes, and not all of them can give up a row. A cache therefore keeps all its rows: rows that have
left the batch read token 0, which no other row sees. Shapes: R rows, B rows of the cache, L tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Self

import torch
from torch import Tensor

from tttkit.models.hugging_face.cache import cache_bytes
from tttkit.models.hugging_face.forward import Forward


@dataclasses.dataclass(frozen=True, kw_only=True)
class CachedTexts:
    """Texts inside the cache of a model."""

    position: int
    rows: tuple[int, ...]
    """Rows of the cache that are continued, in order."""
    num_cached: int
    """B, the rows of the cache."""
    cache: Any = None
    """None before the first token. The model changes it in place."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors of the cache."""
        return cache_bytes(self.cache)

    def select(self, rows: list[int]) -> Self:
        """Return the state of the given rows; the cache itself keeps all of them."""
        return dataclasses.replace(self, rows=tuple(self.rows[row] for row in rows))

    def forked(self) -> Self:
        """Return a state with a copy of the cache."""
        return dataclasses.replace(self, cache=copy.deepcopy(self.cache))

    def read(self, forward: Forward, ids: Tensor) -> tuple[Tensor, Self]:
        """Return the logits (R, V) after ids (R, L), and the state."""
        rows = torch.tensor(self.rows, device=ids.device)
        is_whole = self.rows == tuple(range(self.num_cached))
        read = ids if is_whole else ids.new_zeros(self.num_cached, ids.shape[1]).index_copy(0, rows, ids)
        hidden_states, cache = forward.hidden_states(read, self.cache, keep_cache=True)
        logits = forward.logits(hidden_states[rows, -1])
        return logits, dataclasses.replace(self, cache=cache, position=self.position + ids.shape[1])


@dataclasses.dataclass(frozen=True, kw_only=True)
class WholeTexts:
    """Texts (R, L) that a model without a usable cache reads from the start for every token."""

    ids: Tensor

    @property
    def position(self) -> int:
        """Tokens of each row."""
        return self.ids.shape[1]

    @property
    def num_bytes(self) -> int:
        """Bytes of the ids."""
        return self.ids.numel() * self.ids.element_size()

    def select(self, rows: list[int]) -> Self:
        """Return the texts of the given rows."""
        return dataclasses.replace(self, ids=self.ids[rows])

    def forked(self) -> Self:
        """Return the same texts, which nothing changes."""
        return self

    def read(self, forward: Forward, ids: Tensor) -> tuple[Tensor, Self]:
        """Return the logits (R, V) after ids (R, L), and the longer texts."""
        texts = torch.cat([self.ids, ids], dim=1)
        return forward.whole_logits(texts, num_last=1)[:, -1], dataclasses.replace(self, ids=texts)
