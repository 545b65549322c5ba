"""The success criteria of a run: whether it is sound, how far it trained, and whether its model generalizes.

This is the only list; report.html and CURRICULUM_RESULTS.md both show it.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from tttkit.analyze.finding import Findings
from tttkit.analyze.record import Record
from tttkit.analyze.winner import FEWEST_SEQUENCES, NO_WINNER, UNKNOWN, name_winner, ratios_of_summary
from tttkit.results.contexts import required_contexts
from tttkit.results.summary import Summary, mean_key
from tttkit.results.values import number

Verdict = Literal["yes", "no", "unknown"]
THRESHOLDS = (500, 200, 100)
"""Perplexities at 1 x W that a run is expected to fall below."""
MOST_INCREASE = 0.05
"""Largest relative increase of perplexity beyond the window that counts as holding up."""


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A criterion, whether it is met, and the figures behind the answer, as plain text."""

    name: str
    verdict: Verdict
    evidence: str


def criteria(record: Record, findings: Findings, state: str) -> list[Criterion]:
    """Return every criterion of a run, first on its training, then on its model.

    `state` is the run's status, for example `finished` or `crashed`.
    """
    last = record.evaluations[-1].summary
    return [
        _ended(record, state),
        _finite(record),
        _plateau(findings),
        _stopped_early(record, findings),
        _evaluated(record),
        *_thresholds(record),
        _beats_unigram(last, record),
        _holds_up(last),
        *(_wins(last, multiple) for multiple in record.multiples() if multiple > 1),
    ]


def _answer(*, met: bool) -> Verdict:
    return "yes" if met else "no"


def _ended(record: Record, state: str) -> Criterion:
    name = "training ended as planned"
    result = record.metadata.get("result")
    if not isinstance(result, dict):
        return Criterion(name, "unknown" if state == "unknown" else "no", f"{state}: no end is recorded")
    reason, step = result.get("reason", state), result.get("step")
    evidence = str(reason) if step is None else f"{reason} at step {step:,}"
    return Criterion(name, _answer(met=reason in ("finished", "early-stopped")), evidence)


def _finite(record: Record) -> Criterion:
    name = "every update was finite"
    last = record.metrics[-1] if record.metrics else {}
    skipped = last.get("num_skipped")
    if skipped is None:
        return Criterion(name, "unknown", "no step was logged")
    return Criterion(name, _answer(met=not skipped), f"{skipped:,} updates skipped in {last['step']:,} steps")


def _plateau(findings: Findings) -> Criterion:
    convergence = findings["convergence"]
    undecided = convergence.verdict in ("unknown", "undecided")
    verdict: Verdict = "unknown" if undecided else _answer(met=convergence.verdict == "plateau")
    return Criterion("perplexity reached a plateau", verdict, convergence.statement)


def _stopped_early(record: Record, findings: Findings) -> Criterion:
    reason = record.metadata.get("result", {}).get("reason")
    verdicts: dict[str, Verdict] = {"early-stopped": "yes", "finished": "no"}
    verdict = verdicts.get(str(reason), "unknown")
    return Criterion("early stopping ended the training", verdict, findings["early_stopping"].statement)


def _evaluated(record: Record) -> Criterion:
    name, count, planned = "every planned evaluation was made", len(record.evaluations), _planned(record)
    if planned is None:
        return Criterion(name, "unknown", f"{count} evaluations; the plan is not recorded")
    return Criterion(name, _answer(met=count >= planned), f"{count} of {planned}")


def _planned(record: Record) -> int | None:
    """Return the number of scheduled evaluations, including those at step 0 and at the last step."""
    evaluation, train = record.config.get("evaluation", {}), record.config.get("train", {})
    count, steps = evaluation.get("num_checkpoints"), train.get("max_steps")
    if isinstance(count, int) and isinstance(steps, int):
        return min(count, steps + 1)
    planned = record.metadata.get("num_eval_checkpoints")
    return planned if isinstance(planned, int) else None


def _thresholds(record: Record) -> list[Criterion]:
    """Return one criterion per threshold, judged by the best evaluation and the figure with the most windows."""
    key = record.criterion()
    values = [] if key == mean_key("full") else record.series(key)[1].tolist()
    names = {threshold: f"perplexity at 1 x W fell below {threshold}" for threshold in THRESHOLDS}
    if not values:
        return [Criterion(name, "unknown", "not measured") for name in names.values()]
    evidence = f"best {min(values):,.2f}, last {values[-1]:,.2f} ({key})"
    return [Criterion(name, _answer(met=min(values) < threshold), evidence) for threshold, name in names.items()]


def _beats_unigram(last: Summary, record: Record) -> Criterion:
    name = "perplexity is below that of the unigram model"
    unigram, reached = number(record.metadata.get("result", {}).get("unigram_ppl")), last.selection_ppl
    if unigram is None or reached is None:
        return Criterion(name, "unknown", "not measured; it is known when a run ends")
    return Criterion(name, _answer(met=reached < unigram), f"{reached:,.2f} against {unigram:,.2f}")


def _holds_up(last: Summary) -> Criterion:
    """Compare the longest label with the shortest by value alone, because no interval is kept for this ratio."""
    percent = f"{100 * MOST_INCREASE:g} %"
    known = [(label, value) for label in last.labels() if (value := last.perplexity("full", label)) is not None]
    if len(known) < 2:
        return Criterion(f"perplexity beyond the window stays within {percent} of 1 x W", "unknown",
                         "fewer than two positions were measured")  # fmt: skip
    (shortest, near), (longest, far) = known[0], known[-1]
    name = f"perplexity at {longest} x W stays within {percent} of {shortest} x W"
    return Criterion(name, _answer(met=far <= (1 + MOST_INCREASE) * near), f"{far:,.2f} against {near:,.2f}")


def _wins(last: Summary, multiple: int) -> Criterion:
    """Apply the rule that names a winner: `full` must be significantly below every windowed context."""
    name = f"the full context beats every windowed context at {multiple} x W"
    ratios = ratios_of_summary(last, multiple)
    measured = {each.context for each in ratios}
    missing = [context for context in required_contexts() if context not in measured]
    if missing:
        return Criterion(name, "unknown", f"no interval for {', '.join(missing)}")
    evidence = ", ".join(f"{each.context}/full {each.text()}" for each in ratios)
    winner = name_winner(ratios)
    if winner == UNKNOWN:
        return Criterion(
            name, "unknown", f"only {last.num_sequences} sequences, {FEWEST_SEQUENCES} are needed: {evidence}"
        )
    if winner == NO_WINNER:
        return Criterion(name, "unknown", f"no difference found (n = {last.num_sequences or '?'}): {evidence}")
    return Criterion(name, _answer(met=winner == "full"), evidence)
