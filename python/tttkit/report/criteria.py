"""Whether a run is sound and whether its model generalizes: each criterion met, not met or not known, with evidence."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal

from tttkit.analyze.contest import WINDOWED, contests_of_summary, judge
from tttkit.health.status import RunStatus

Verdict = Literal["yes", "no", "unknown"]


@dataclasses.dataclass(frozen=True)
class Criterion:
    """What was asked, the answer, and the figures it rests on; plain text."""

    name: str
    verdict: Verdict
    evidence: str


def criteria(summaries: list[dict[str, Any]], metadata: dict[str, Any], status: RunStatus) -> list[Criterion]:
    """All criteria of a run with at least one evaluation, those of the training first."""
    last = summaries[-1]
    found = [_ended(status), _finite(status), _beats_unigram(last, metadata), _holds_up(last)]
    multiples = [int(match[1]) for key in last if (match := re.match(r"^ratio_at_(\d+)xW$", key)) and match[1] != "1"]
    return [*found, *(_wins(last, multiple) for multiple in sorted(multiples))]


def _ended(status: RunStatus) -> Criterion:
    ends = {"finished": "yes", "early-stopped": "yes", "unknown": "unknown"}
    verdict: Any = ends.get(status.state, "no")
    return Criterion("training came to its end", verdict, f"{status.state}: {status.reason}")


def _finite(status: RunStatus) -> Criterion:
    if status.num_skipped is None:
        return Criterion("every update was finite", "unknown", "no logged step")
    evidence = f"{status.num_skipped} updates skipped in {status.step:,} steps"
    return Criterion("every update was finite", "no" if status.num_skipped else "yes", evidence)


def _beats_unigram(last: dict[str, Any], metadata: dict[str, Any]) -> Criterion:
    name = "better than the frequencies of single tokens"
    unigram, reached = metadata.get("result", {}).get("unigram_ppl"), last.get("selection_ppl")
    if not isinstance(unigram, int | float) or not isinstance(reached, int | float):
        return Criterion(name, "unknown", "known at the end of a run")
    return Criterion(name, "yes" if reached < unigram else "no", f"perplexity {reached:,.2f} against {unigram:,.2f}")


def _holds_up(last: dict[str, Any]) -> Criterion:
    """The longest labelled position against 1 x W, full context; by value alone, since no interval is kept."""
    known = sorted(
        int(match[1])
        for key, value in last.items()
        if (match := re.match(r"^ttt_ppl_at_(\d+)xW$", key)) and isinstance(value, int | float)
    )
    if len(known) < 2:
        return Criterion("perplexity beyond the window stays within 5 % of 1 x W", "unknown", "one position alone")
    near, far = last[f"ttt_ppl_at_{known[0]}xW"], last[f"ttt_ppl_at_{known[-1]}xW"]
    name = f"perplexity at {known[-1]} x W stays within 5 % of {known[0]} x W"
    return Criterion(name, "yes" if far <= 1.05 * near else "no", f"{far:,.2f} against {near:,.2f}, full context")


def _wins(last: dict[str, Any], multiple: int) -> Criterion:
    """Full below sw, sw_aligned and reset, each with an interval that excludes 1 (the protocol's rule)."""
    name = f"full context better than every window at {multiple} x W"
    found = contests_of_summary(last, multiple)
    missing = [context for context in WINDOWED if context not in {contest.context for contest in found}]
    if missing:
        return Criterion(name, "unknown", f"{missing[0]} was not measured there")
    evidence = ", ".join(f"{contest.context}/full {contest.text()}" for contest in found)
    winner = judge(found)
    if winner == "none":
        return Criterion(name, "unknown", f"no difference found (n = {last.get('num_sequences', '?')}): {evidence}")
    return Criterion(name, "yes" if winner == "full" else "no", evidence)
