"""The recurrent state of a batch whose rows may have read different numbers of tokens, as left padding causes.

Rows that have read as much share one `ModelState`. Shapes: R rows, L tokens, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import Tensor

from tttkit.models import LanguageModel, ModelState


@dataclasses.dataclass(frozen=True)
class RowStates:
    """State after the tokens that each row has read. A value, except for `reorder_cache`."""

    groups: list[tuple[list[int], ModelState]]
    """Rows, and the state of these rows; every row is in one group."""
    num_read: int
    """Tokens of the longest row, padding included."""

    @staticmethod
    def read(
        model: LanguageModel, ids: Tensor, starts: Sequence[int], before: RowStates | None
    ) -> tuple[Tensor, RowStates]:
        """Read ids (R, L) from column `starts[row]` on; return the hidden states (R, L, D) and the state after them.

        Hidden states before the start of a row are zero. `before` None begins each row's text.
        """
        groups = _start(model, starts) if before is None else before.groups
        hidden: Tensor | None = None
        after = []
        for rows, state in groups:
            start = starts[rows[0]] if before is None else 0
            part, next_state = model.advance(ids[rows, start:], state)
            after.append((rows, next_state))
            if hidden is None:
                hidden = part.new_zeros(*ids.shape, part.shape[-1])
            hidden[rows, start:] = part
        if hidden is None:
            raise ValueError("input_ids must hold at least one row")
        return hidden, RowStates(after, ids.shape[1] + (0 if before is None else before.num_read))

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Make row i the row `beam_idx[i]`, in place: the name and the call are those of transformers' caches."""
        place = {row: (group, index) for group, (rows, _) in enumerate(self.groups) for index, row in enumerate(rows)}
        wanted: dict[int, list[tuple[int, int]]] = {}
        for row, source in enumerate(beam_idx.tolist()):
            group, index = place[source]
            wanted.setdefault(group, []).append((row, index))
        self.groups[:] = [
            ([row for row, _ in pairs], self.groups[group][1].select([index for _, index in pairs]))
            for group, pairs in wanted.items()
        ]


def left_padding(attention_mask: Tensor | None, ids: Tensor) -> list[int]:
    """Return the column at which the text of each row begins. Raises ValueError for padding between tokens.

    Padding on the right needs no care: no token depends on later ones.
    """
    if attention_mask is None:
        return [0] * len(ids)
    mask = attention_mask[:, -ids.shape[1] :].bool()
    starts = mask.int().argmax(dim=1)
    ends = mask.shape[1] - mask.flip(1).int().argmax(dim=1)
    if not bool((mask.sum(dim=1) == ends - starts).all()) or not bool(mask.any(dim=1).all()):
        raise ValueError("attention_mask must be one run of ones per row: padding between tokens is not supported")
    return [int(start) for start in starts]


def _start(model: LanguageModel, starts: Sequence[int]) -> list[tuple[list[int], ModelState]]:
    """Return initial states of rows, grouped by the column at which they begin."""
    groups: dict[int, list[int]] = {}
    for row, start in enumerate(starts):
        groups.setdefault(start, []).append(row)
    return [(rows, model.initial_state(len(rows))) for rows in groups.values()]
