"""Attention sinks: what a token attends to beside the tokens of its window.

`tokens` (StreamingLLM, Xiao et al., arXiv 2309.17453): the first k tokens of a text stay visible. Sink j is seen at its
true distance t - j, but at no more than W - 1 + k - j, so that the distances stay near those of training however long
the text is. That is the same as a query at position min(t, W - 1 + k) and the sink at its own position j.

`logit` (gpt-oss, OpenAI, arXiv 2508.10925): a learned logit per head in the denominator of the softmax, with nothing to
read. A head for which the window holds nothing useful can thus attend to nothing.

Shapes: B batch, H heads, L length, d head width, W window, k sink tokens, m columns of the softmax, N blocks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tttkit.models.layers import Rotation, rotary_tables, upcast


class Sinks(NamedTuple):
    """Columns of the softmax that come before those of the window."""

    scores: Tensor
    """(B, H, L, m); minus infinity where a query does not see a sink."""
    values: Tensor | None
    """(B, H, m, d); None if there is nothing to read."""

    def part(self, queries: slice) -> Sinks:
        """Return the sinks of some of the queries."""
        return Sinks(self.scores[:, :, queries], self.values)

    def in_blocks(self, window: int, missing: int) -> Sinks:
        """Return the sinks of queries cut into blocks of W tokens, H x N in place of H, with `missing` added."""
        batch, heads, _, num_sinks = self.scores.shape
        scores = F.pad(self.scores, (0, 0, 0, missing)).reshape(batch, -1, window, num_sinks)
        values = None if self.values is None else self.values.repeat_interleave(scores.shape[1] // heads, dim=1)
        return Sinks(scores, values)


def attend(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor, sinks: Sinks | None) -> Tensor:
    """Attend from (B, H, L, d) to the keys (B, H, n, d) that are `visible`, bool (…, L, n), and to sinks."""
    if sinks is None:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=visible)
    scores = upcast(queries @ keys.mT) / math.sqrt(queries.shape[-1])
    scores = torch.cat((upcast(sinks.scores), scores.masked_fill(~visible, -math.inf)), dim=-1)
    num_sinks = sinks.scores.shape[-1]
    weights = scores.softmax(-1).to(values.dtype)
    read = weights[..., num_sinks:] @ values
    return read if sinks.values is None else read + weights[..., :num_sinks] @ sinks.values


def first_tokens(kept: Tensor, segment: Tensor, read: Tensor) -> Tensor:
    """Return `kept`, (B, H, k, d), with those of the first k tokens of each row that are in a segment (B, H, L, d).

    `read`, (B), is the number of tokens that each row has read before the segment.
    """
    length = segment.shape[2]
    place = torch.arange(kept.shape[2], device=kept.device) - read[:, None].long()
    index = place.clamp(0, length - 1)[:, None, :, None].expand(-1, segment.shape[1], -1, segment.shape[3])
    inside = ((place >= 0) & (place < length))[:, None, :, None]
    return torch.where(inside, segment.gather(2, index), kept.to(segment.dtype))


def token_sinks(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    read: Tensor | None,
    *,
    window: int,
    num_sinks: int,
    theta: float,
    rotation: Rotation,
) -> Sinks:
    """Return the sinks of queries (B, H, L, d), given keys and values (B, H, m, d) of the first tokens, not rotated.

    `read`, (B), is the number of tokens before the segment; None means none. Tokens in a query's window are no sinks.
    """
    index = torch.arange(keys.shape[2], device=keys.device)
    at = torch.arange(queries.shape[2], device=keys.device)[None]
    at = at if read is None else at + read[:, None]  # (B, L)
    visible = at[..., None] - index >= window
    rotated, head_dim = upcast(queries), queries.shape[-1]
    cos, sin = rotary_tables(at.clamp(max=window - 1 + num_sinks)[:, None], head_dim, theta, rotated.dtype)
    rotated = rotation(rotated, cos, sin).to(values.dtype)
    cos, sin = rotary_tables(index, head_dim, theta, cos.dtype)
    scores = rotated @ rotation(upcast(keys), cos, sin).to(values.dtype).mT
    scores = upcast(scores) / math.sqrt(head_dim)
    return Sinks(scores.masked_fill(~visible[:, None], -math.inf), values)


def logit_sink(logit: Tensor, queries: Tensor) -> Sinks:
    """Return the sink of learned logits (H) for queries (B, H, L, d)."""
    return Sinks(upcast(logit)[None, :, None, None].expand(*queries.shape[:3], 1), None)


def sinks_attended_twice(length: int, window: int, num_sinks: int) -> int:
    """Return twice the number of sink tokens that a token of a text of `length` tokens attends to on average."""
    return 2 * sum(max(0, length - window - index) for index in range(num_sinks)) // max(length, 1)
