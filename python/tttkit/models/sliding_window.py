"""Sliding-window attention: the baseline whose layers attend to the last W tokens, and whose cache does not grow.

Shapes: B batch, H heads, L length, n cached tokens, d head width, N blocks of W tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tttkit.models.layers import Rotation, rotary_tables, rotate, upcast
from tttkit.models.sinks import Sinks, attend, first_tokens, logit_sink, token_sinks
from tttkit.models.transformer import CausalAttention

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig
    from tttkit.models.state import LayerState

_MIN_WINDOWS = 8
"""Length, in windows, from which blocks are faster than a mask over all pairs. Measured on one CPU core with W=64, 12
heads, forward and backward: 0.9 times the speed of the mask at 4 windows, 4.2 times at 20. FlexAttention has no
backward on a CPU; its forward has 1.0 times the speed at 1 window and 3.4 times at 20, where blocks have 5.0."""


class SlidingWindowAttention(CausalAttention):
    """Attention over the current token and the `sliding_window` - 1 before it; the cache holds those only."""

    sees_whole_past = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.window: int = config.sliding_window

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend as `CausalAttention` does; cut a long text into blocks of W tokens, at a cost linear in its length."""
        if keys.shape[2] <= _MIN_WINDOWS * self.window:
            return super()._attend(queries, keys, values)
        return attend_in_blocks(queries, keys, values, self.window)


def attend_in_blocks(queries: Tensor, keys: Tensor, values: Tensor, window: int, sinks: Sinks | None = None) -> Tensor:
    """Attend from queries (B, H, L, d) to the last W of the keys (B, H, n + L, d) up to each; return (B, H, L, d).

    Each block of W tokens attends to itself and to the block before it; n is at most W - 1.
    """
    batch, heads, length, head_dim = queries.shape
    num_cached, num_blocks = keys.shape[2] - length, -(-length // window)
    missing = num_blocks * window - length
    queries = F.pad(queries, (0, 0, 0, missing)).view(batch, heads * num_blocks, window, head_dim)
    # each block gets the W keys before it: (B, H x N, 2 W, d)
    keys, values = (
        F.pad(x, (0, 0, window - num_cached, missing)).unfold(2, 2 * window, window).mT.flatten(1, 2)
        for x in (keys, values)
    )
    distance = torch.arange(window, 2 * window, device=queries.device)[:, None]
    distance = distance - torch.arange(2 * window, device=queries.device)
    visible = ((distance >= 0) & (distance < window)).repeat(num_blocks, 1, 1)
    # padding before the start of the text
    visible[0, :, : window - num_cached] = False
    sinks = None if sinks is None else sinks.in_blocks(window, missing)
    read = attend(queries, keys, values, visible.repeat(heads, 1, 1), sinks)
    return read.view(batch, heads, -1, head_dim)[:, :, :length]


def window_state(like: Tensor, batch_size: int, config: ModelConfig) -> LayerState:
    """Return the cache of `attend_to_window` before any text: all zeros, and of the size that it keeps."""
    sizes = {"window": config.sliding_window - 1, "sink": config.num_sink_tokens}
    state = {
        f"{place}_{name}": like.new_zeros(batch_size, config.num_attention_heads, size, config.head_dim)
        for place, size in sizes.items()
        if size or place == "window"
        for name in ("keys", "values")
    }
    return {**state, "num_read": like.new_zeros(batch_size)}


def attend_to_window(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    config: ModelConfig,
    state: LayerState | None,
    logit: Tensor | None = None,
    rotation: Rotation = rotate,
) -> tuple[Tensor, LayerState]:
    """Attend from each token to itself, the W - 1 before it and sinks; (B, H, L, d) each, before the rotation.

    Return the reads (B, H, L, d) and the cache after the segment, empty if `state` is None. Unlike the cache of
    `SlidingWindowAttention`, this one may be the initial state of a following window (`train.initial_state`): it holds
    keys before their rotation, and `num_read` (B), the number of tokens that each row has read, says which of them
    exist. Reads depend on distances between tokens only. `logit` holds the learned logits (H) of `model.sink = logit`.
    With the `rotation` of the sliding-window model, texts of up to W tokens have its reads.
    """
    window = config.sliding_window
    sinks, after = _sinks(queries, keys, values, config, state, logit, rotation)
    length, cached = queries.shape[2], 0
    exists = None
    if state is not None:
        cached = window - 1
        keys = torch.cat((state["window_keys"].to(keys.dtype), keys), dim=2)
        values = torch.cat((state["window_values"].to(values.dtype), values), dim=2)
        after |= {
            "window_keys": keys[:, :, length:],
            "window_values": values[:, :, length:],
            "num_read": state["num_read"] + length,
        }
        age = torch.arange(cached, 0, -1, device=queries.device)
        exists = F.pad(state["num_read"][:, None] >= age, (0, length), value=True)  # (B, n + L)
    rotated, positions = upcast(queries), torch.arange(cached + length, device=queries.device)
    cos, sin = rotary_tables(positions, queries.shape[-1], config.rope_theta, rotated.dtype)
    queries = rotation(rotated, cos[cached:], sin[cached:]).to(values.dtype)
    keys = rotation(upcast(keys), cos, sin).to(values.dtype)
    # only the first W - 1 tokens can see the cache; the others attend within the segment
    seeing = min(cached, length)
    if seeing + length <= _MIN_WINDOWS * window:
        return _attend_with_mask(queries, keys, values, window, exists, sinks), after
    first, rest = slice(0, seeing), slice(seeing, length)
    at_first, at_rest = (None, None) if sinks is None else (sinks.part(first), sinks.part(rest))
    parts = []
    if seeing:
        seen = slice(0, cached + seeing)
        present = None if exists is None else exists[:, seen]
        read = _attend_with_mask(queries[:, :, first], keys[:, :, seen], values[:, :, seen], window, present, at_first)
        parts.append(read)
    parts.append(attend_in_blocks(queries[:, :, rest], keys[:, :, seeing:], values[:, :, seeing:], window, at_rest))
    return torch.cat(parts, dim=2), after


def _sinks(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    config: ModelConfig,
    state: LayerState | None,
    logit: Tensor | None,
    rotation: Rotation,
) -> tuple[Sinks | None, LayerState]:
    """Return the sinks of a segment and what the state keeps of them; inputs as of `attend_to_window`."""
    if logit is not None:
        return logit_sink(logit, queries), {}
    num_sinks, window = config.num_sink_tokens, config.sliding_window
    if not num_sinks or (state is None and queries.shape[2] <= window):
        return None, {}
    read, after = None, {}
    if state is None:
        keys, values = keys[:, :, :num_sinks], values[:, :, :num_sinks]
    else:
        read = state["num_read"]
        keys, values = (
            first_tokens(state[name], x, read) for name, x in (("sink_keys", keys), ("sink_values", values))
        )
        after = {"sink_keys": keys, "sink_values": values}
    sinks = token_sinks(
        queries, keys, values, read, window=window, num_sinks=num_sinks, theta=config.rope_theta, rotation=rotation
    )
    return sinks, after


def _attend_with_mask(
    queries: Tensor, keys: Tensor, values: Tensor, window: int, exists: Tensor | None, sinks: Sinks | None
) -> Tensor:
    """Attend from the last L of the n + L tokens to those in the window that exist, (B, n + L) bool, and to sinks."""
    total = keys.shape[2]
    positions = torch.arange(total - queries.shape[2], total, device=queries.device)[:, None]
    distance = positions - torch.arange(total, device=queries.device)
    visible = (distance >= 0) & (distance < window)
    if exists is not None:
        visible = visible & exists[:, None, None]
    elif total <= window and sinks is None:
        return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    return attend(queries, keys, values, visible, sinks)
