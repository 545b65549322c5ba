"""The one rule that names a winner at a position, for live tables, evaluations, comparisons and reports.

The rule is in docs/protocol.md. This module needs no numpy, so that `status` loads it quickly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from tttkit.results.contexts import CONTEXTS, compared_contexts, required_contexts
from tttkit.results.summary import Summary

FEWEST_DOCUMENTS = 10
"""With fewer documents the interval over documents is shown but decides nothing."""
FEWEST_SEQUENCES = 16
"""With fewer sequences no winner is named: with percentiles the rule is wrong in over 5 % of trials."""
SIMULTANEOUS_WIDTH = 1.27
"""Width factor for simultaneous intervals of four contexts: 2.5 instead of 1.96 standard errors."""
ROUNDING = 1e-5
"""Ratios that differ by a smaller share count as tied, because the rounding of float32 must decide nothing."""
NO_WINNER = "none"
UNKNOWN = "unknown"
"""Answer if there are too few sequences to name a winner."""
NO_DIFFERENCE = "no difference found"
"""Text in tables if there is no winner."""
RULE = (
    "full wins at m x W if it is below sw, sw_aligned, reset and every other windowed context that was measured, each "
    "with a 95 % interval of the ratio that excludes 1 (paired bootstrap over sequences, and over documents too if "
    f"there are at least {FEWEST_DOCUMENTS}). A windowed context wins if its interval, widened by the factor "
    f"{SIMULTANEOUS_WIDTH} because the best of several contexts is chosen, lies entirely below 1; if several do, the "
    "one with the smallest ratio is named, and the cheapest of those that are tied. Otherwise no difference was found. "
    f"With fewer than {FEWEST_SEQUENCES} sequences no winner is named. `dynamic` does not compete. "
    "Each position is judged separately. At 1 x W all contexts are equal by construction, and at a label sw_aligned "
    "and reset see the same window if a chunk is one inner mini-batch."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedRatio:
    """One context compared with the reference at one position: ratio of perplexities with both intervals.

    The reference is the full context of the same model, or of the first of several models; above 1 it is better.
    """

    context: str
    ratio: float
    low: float | None
    """The 95 % interval over sequences; None for a single sequence."""
    high: float | None
    document_low: float | None
    """The 95 % interval over documents; None if all sequences begin in one document."""
    document_high: float | None
    num_documents: int
    num_sequences: int | None = None
    """None if it was not recorded."""

    @property
    def has_enough_sequences(self) -> bool:
        """Whether a verdict is allowed: false if fewer than `FEWEST_SEQUENCES` are known to stand behind the ratio."""
        return self.num_sequences is None or self.num_sequences >= FEWEST_SEQUENCES

    @property
    def sign(self) -> int:
        """+1 if the reference is significantly better, -1 if the context is, else 0."""
        if not self.has_enough_sequences:
            return 0
        by_sequence = _side(self.low, self.high)
        if self.num_documents < FEWEST_DOCUMENTS or self.document_low is None or self.document_high is None:
            return by_sequence
        return by_sequence if by_sequence == _side(self.document_low, self.document_high) else 0

    @property
    def is_ahead(self) -> bool:
        """Whether the context is significantly better than the reference even as the best of several contexts."""
        return (
            self.sign < 0
            and self.high is not None
            and self.high**SIMULTANEOUS_WIDTH < self.ratio ** (SIMULTANEOUS_WIDTH - 1)
        )

    def text(self) -> str:
        """Return `ratio [low, high]`, with the interval over documents if there is one."""
        if self.low is None or self.high is None:
            return f"{self.ratio:.3f} [no interval]"
        text = f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"
        if self.document_low is not None and self.document_high is not None:
            text += f" docs [{self.document_low:.3f}, {self.document_high:.3f}]"
        return text


def name_winner(ratios: Sequence[PairedRatio], required: Iterable[str] | None = None) -> str:
    """Name the winner at one position by `RULE`.

    Returns the context that beats the reference, `full` if the reference beats all contexts, `NO_WINNER`, or `UNKNOWN`
    for too few sequences. The reference wins only if every context of `required`, by default the required windowed
    ones, is among `ratios`.
    """
    competing = competitors(ratios)
    if not all(each.has_enough_sequences for each in competing):
        return UNKNOWN
    best = best_ahead(competing)
    if best is not None:
        return best.context
    return "full" if reference_wins(competing, required) else NO_WINNER


def competitors(ratios: Iterable[PairedRatio]) -> list[PairedRatio]:
    """Return the ratios of contexts that may win: `full` of another model, and contexts under a window.

    `dynamic` changes the weights, so it says nothing about how well the same weights use their context.
    """
    return [each for each in ratios if each.context == "full" or CONTEXTS[each.context].is_windowed]


def best_ahead(ratios: Sequence[PairedRatio]) -> PairedRatio | None:
    """Return the context that beats the reference by most, the cheapest of tied ones; None if none beats it."""
    ahead = {each.context: each for each in ratios if each.is_ahead}
    best = best_context({name: each.ratio for name, each in ahead.items()})
    return None if best is None else ahead[best]


def best_context(figures: Mapping[str, float]) -> str | None:
    """Return the context with the smallest figure, the cheapest of tied ones; None if there is no figure."""
    if not figures:
        return None
    least = min(figures.values())
    limit = least + abs(least) * ROUNDING
    tied = [name for name in CONTEXTS if name in figures and figures[name] <= limit]
    return min(tied, key=lambda name: CONTEXTS[name].usual_cost)


def reference_wins(ratios: Sequence[PairedRatio], required: Iterable[str] | None = None) -> bool:
    """Whether the reference beats every context of `ratios`, and these include all that are required."""
    needed = set(required_contexts() if required is None else required)
    return bool(ratios) and needed <= {each.context for each in ratios} and all(each.sign > 0 for each in ratios)


def ratios_of_summary(summary: Summary, multiple: int) -> list[PairedRatio]:
    """Return the ratio to `full` at `multiple` x W of every other context with an interval in summary.json."""
    ratios = []
    for context in compared_contexts():
        each = summary.ratio(context, multiple)
        if each.value is None or each.low is None or each.high is None:
            continue
        ratios.append(
            PairedRatio(
                context=context, ratio=each.value, low=each.low, high=each.high, document_low=each.document_low,
                document_high=each.document_high, num_documents=summary.num_documents,
                num_sequences=summary.num_sequences,
            )
        )  # fmt: skip
    return ratios


def _side(low: float | None, high: float | None) -> int:
    """Return +1 for an interval above 1, -1 for one below 1, and 0 for one that contains 1 or is not known."""
    if low is None or high is None:
        return 0
    return 1 if low > 1 else -1 if high < 1 else 0
