"""The contexts in which a model is evaluated, and the labelled positions: one table for files, tables and figures.

A new context is one entry here and one scoring function in `evaluate/nll.py`. This module imports neither torch nor
numpy. Read `CONTEXTS` when a function runs, never at import, so that an entry that is added later is seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection

LABELS = (1, 2, 5, 10, 20, 50, 100)
"""Multiples m of the window W at which perplexity is reported, as far as the evaluated length reaches."""
_USUAL_SIZES = (1280, 64, 16, 1216)
"""Length T, window W, inner mini-batch C and positions beyond W at which the costs of two contexts are compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Context:
    """One way to give a model its context, with everything that files, tables and figures need to know about it."""

    name: str
    key: str
    """First part of its perplexity keys; `full` keeps the earlier system's `ttt`."""
    is_windowed: bool
    """Whether it may win over `full` by the rule of the protocol."""
    description: str
    """What a position sees, for legends."""
    colour: str
    line_style: str | tuple[int, tuple[int, ...]]
    """As matplotlib takes it: a name, or offset and lengths of dashes and gaps."""
    cost: Callable[[int, int, int, int], float]
    """Tokens run through the model per sequence, from (length T, window W, inner mini-batch C, positions beyond W)."""
    block_sequences: int
    """Sequences that an evaluation computes between two saves: fewer if each sequence costs more."""
    is_required: bool = True
    """Whether an evaluation without it is incomplete; False for a context that older results lack."""
    is_on_request: bool = False
    """Whether it is evaluated only if somebody asks for it."""
    has_spread: bool = False
    """Whether mean, minimum and maximum perplexity over chunks are recorded, as in the earlier system."""

    @property
    def ratio_key(self) -> str:
        """First part of its ratio keys; the ratio of `sw` has none, as in the earlier system."""
        return "" if self.name == "sw" else f"{self.name}_"

    @property
    def usual_cost(self) -> float:
        """Tokens run through the model per sequence at the usual sizes, to tell which of two contexts is cheaper."""
        return self.cost(*_USUAL_SIZES)


CONTEXTS: dict[str, Context] = {
    context.name: context
    for context in (
        # Okabe and Ito's colours stay apart in every common form of colour blindness, the line styles in greyscale.
        Context(
            name="full", key="ttt", is_windowed=False, description="state carried from token 0", colour="#0072B2",
            line_style="-", cost=lambda length, *_: length, block_sequences=64, has_spread=True,
        ),
        Context(
            name="sw", key="sw", is_windowed=True, description="each token's own window of W", colour="#D55E00",
            line_style="--", cost=lambda _length, window, _size, beyond: window * (1 + beyond), block_sequences=2,
            has_spread=True,
        ),
        Context(
            name="sw_aligned", key="sw_aligned", is_windowed=True, description="windows on inner mini-batches",
            colour="#E69F00", line_style="-.", block_sequences=16,
            cost=lambda _length, window, size, beyond: window * (1 + beyond / size),
        ),
        Context(
            name="reset", key="reset", is_windowed=True, description="fresh state every W tokens", colour="#009E73",
            line_style=":", cost=lambda length, *_: length, block_sequences=64,
        ),
        # A step costs a forward and a backward pass, about three forward passes.
        Context(
            name="dynamic", key="dynamic", is_windowed=False, description="as full; weights learn from scored text",
            colour="#CC79A7", line_style=(0, (6, 1, 1, 1, 1, 1)), cost=lambda length, *_: 3 * length,
            block_sequences=4, is_required=False, is_on_request=True,
        ),
    )
}  # fmt: skip
"""The contexts in the order of tables and legends. The protocol is in docs/protocol.md."""


def windowed_contexts() -> list[str]:
    """Return the names of the contexts that may win over `full`, in the order of tables."""
    return [name for name, context in CONTEXTS.items() if context.is_windowed]


def compared_contexts() -> list[str]:
    """Return the names of the contexts whose ratio to `full` is measured, in the order of tables."""
    return [name for name in CONTEXTS if name != "full"]


def required_contexts() -> list[str]:
    """Return the names of the windowed contexts that a verdict needs."""
    return [name for name in windowed_contexts() if CONTEXTS[name].is_required]


def evaluation_order(requested: Collection[str] = ()) -> list[str]:
    """Return the names of the contexts that an evaluation computes, cheapest first, as they are written to files.

    A context that is evaluated on request is among them only if it is among `requested`.
    """
    names = [name for name, context in CONTEXTS.items() if not context.is_on_request or name in requested]
    return sorted(names, key=lambda name: CONTEXTS[name].usual_cost)


def contexts_to_show(measured: Collection[str]) -> list[str]:
    """Return the contexts that a table shows: the required ones always, the others if they were measured."""
    return [name for name, context in CONTEXTS.items() if context.is_required or name in measured]


def labels_within(window: int, length: int) -> list[int]:
    """Return the labels m with m W <= `length`."""
    return [multiple for multiple in LABELS if multiple * window <= length]
