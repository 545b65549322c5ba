"""The figures of one context of one evaluation, as plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ratio:
    """Perplexity of a windowed context divided by that of `full`, with 95 % intervals; above 1 `full` is better."""

    value: float | None
    low: float | None = None
    """The interval over sequences; None in files of the earlier system."""
    high: float | None = None
    document_low: float | None = None
    """The interval over documents; None if all sequences begin in one document."""
    document_high: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """One context of one evaluation. Perplexities are exp of nats per token, None where they were not computed."""

    perplexities: Mapping[int, float | None]
    """By label m, at m x W."""
    corpus: float | None
    """Over all positions from W on."""
    spread: tuple[float | None, float | None, float | None] | None = None
    """Mean, minimum and maximum perplexity over chunks."""
    ratios: Mapping[int, Ratio] = dataclasses.field(default_factory=dict)
    """By label m, for windowed contexts."""
