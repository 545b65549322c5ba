"""Who wins at a position (evaluation.md, Uncertainty): the one rule of live tables, evaluations and reports.

Plain values without numpy, so that a status screen can afford it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

PREFIXES = {"full": "ttt", "sw": "sw", "sw_aligned": "sw_aligned", "reset": "reset"}
"""Context and what its keys in summary.json begin with; `full` keeps the earlier system's name."""
WINDOWED = ("sw", "sw_aligned", "reset")
LEAST_DOCUMENTS = 10
"""Below so many documents the interval over documents is shown but decides nothing."""
SEVERAL = 1.27
"""How much wider intervals are that hold together, of four contexts: 2.5 instead of 1.96 standard errors."""
RULE = (
    "full wins at m x W where it is below sw, sw_aligned and reset, each with a 95 % interval of the ratio that "
    f"excludes 1 (paired bootstrap over sequences; over documents too where there are at least {LEAST_DOCUMENTS}). A "
    f"windowed context wins where its interval, made {SEVERAL} times as wide because the best of several is looked "
    "for, is wholly below 1. Else no difference was found. Each position is judged by itself. 1 x W is equal by "
    "construction, and at a label sw_aligned and reset see the same window where a chunk is one inner mini-batch."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contest:
    """One windowed context against `full` at one position: ratio of perplexities with both intervals."""

    context: str
    ratio: float
    low: float
    high: float
    document_low: float | None
    document_high: float | None
    num_documents: int

    @property
    def sign(self) -> int:
        """+1 where `full` is surely better, -1 where the windowed context is, else 0."""
        by_sequence = 1 if self.low > 1 else -1 if self.high < 1 else 0
        if self.num_documents < LEAST_DOCUMENTS or self.document_low is None or self.document_high is None:
            return by_sequence
        by_document = 1 if self.document_low > 1 else -1 if self.document_high < 1 else 0
        return by_sequence if by_sequence == by_document else 0

    @property
    def is_ahead(self) -> bool:
        """Whether the windowed context is surely better than `full`, though the best of several is looked for."""
        return self.sign < 0 and self.high**SEVERAL < self.ratio ** (SEVERAL - 1)

    def text(self) -> str:
        """ratio [low, high], with the interval over documents where there are several."""
        text = f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"
        if self.document_low is not None and self.document_high is not None:
            text += f" docs [{self.document_low:.3f}, {self.document_high:.3f}]"
        return text


def judge(found: Sequence[Contest]) -> str:
    """`full`, the name of the best windowed context that surely beats it, or `none`: no difference found."""
    ahead = [contest for contest in found if contest.is_ahead]
    if ahead:
        # reset and sw_aligned are the same windows at the labels; the cheaper is named.
        return min(reversed(ahead), key=lambda contest: contest.ratio).context
    complete = {contest.context for contest in found} == set(WINDOWED)
    return "full" if complete and all(contest.sign > 0 for contest in found) else "none"


def contests_of_summary(summary: dict[str, Any], multiple: int) -> list[Contest]:
    """Windowed contexts against `full` at `multiple` x W, as far as summary.json holds their intervals."""
    found = []
    for context in WINDOWED:
        prefix = "" if context == "sw" else f"{context}_"
        names = ("", "ci_low_", "ci_high_", "document_ci_low_", "document_ci_high_")
        values = [_finite(summary.get(f"{prefix}ratio_{name}at_{multiple}xW")) for name in names]
        ratio, low, high, document_low, document_high = values
        if ratio is None or low is None or high is None:
            continue
        found.append(
            Contest(
                context=context, ratio=ratio, low=low, high=high, document_low=document_low,
                document_high=document_high, num_documents=int(summary.get("num_documents") or 0),
            )
        )  # fmt: skip
    return found


def ratio_of(summary: dict[str, Any], label: str) -> float | None:
    """SW/full at a label such as `20xW`; of the earlier system's figures, which have no interval, their quotient."""
    ratio, full, windowed = (_finite(summary.get(f"{name}_at_{label}")) for name in ("ratio", "ttt_ppl", "sw_ppl"))
    if ratio is not None or full is None or windowed is None:
        return ratio
    return windowed / full if full > 0 else None


def _finite(value: Any) -> float | None:
    """A finite number; JSON has null and strings where there is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
