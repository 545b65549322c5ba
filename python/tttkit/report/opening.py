"""The three sentences that open every report: what wins where, whether training converged, what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from tttkit.analyze.finding import Finding, Findings
from tttkit.analyze.phrases import places
from tttkit.analyze.record import Record
from tttkit.analyze.winner import FEWEST_SEQUENCES
from tttkit.results.contexts import windowed_contexts
from tttkit.run.directory import quoted

_NAMED = {
    "full": "the full context beats every windowed context at {}",
    "no difference found": "no difference was found at {}",
    "unknown": "no winner can be named at {}",
}
"""The clause for each winner that the finding can name, except for windowed contexts."""
_TRAINING = {
    "plateau": "more steps of the same recipe would gain little",
    "falling": "train longer, because perplexity was still falling",
    "rising": "take the weights of the best evaluation, and train for fewer steps or with a lower learning rate",
    "undecided": "train longer or evaluate more often to see whether training has converged",
    "unknown": "evaluate more often, for example with `--num-eval-checkpoints 20`",
}
"""The advice for each verdict on convergence."""


def opening(record: Record, findings: Findings) -> tuple[str, str, str]:
    """Return three sentences on a run, in plain text with names in backquotes.

    They say which context wins at which position, whether training converged, and what to do next. If the files
    do not tell, the sentence says so and why.
    """
    return _winner(record, findings["winner"]), _convergence(findings), _advice(record, findings)


def _winner(record: Record, winner: Finding) -> str:
    rows = [row for row in winner.rows if row["position"] != "1 x W"]
    if not rows:
        return "No winner can be named, because no position beyond the window was measured."
    if winner.verdict == "unknown":
        reason = "the files hold no intervals"
        if _has_few_sequences(record):
            reason = f"{_sequences(record)} are too few: {FEWEST_SEQUENCES} are needed"
        return f"No winner can be named, because {reason}{_figures(rows[-1])}."
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(row["winner"], []).append(int(row["position"].removesuffix(" x W")))
    parts = [
        _NAMED.get(name, f"`{name}` beats the full context at {{}}").format(places(where))
        for name, where in groups.items()
    ]
    listed = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, and {parts[-1]}"
    return f"On {_sequences(record)}, {listed}{_figures(rows[-1])}."


def _has_few_sequences(record: Record) -> bool:
    count = record.evaluations[-1].summary.num_sequences
    return count is not None and count < FEWEST_SEQUENCES


def _sequences(record: Record) -> str:
    summary = record.evaluations[-1].summary
    count = "the evaluated" if summary.num_sequences is None else f"{summary.num_sequences:,}"
    documents = f" from {summary.num_documents:,} documents" if summary.num_documents else ""
    return f"{count} sequences{documents}"


def _figures(row: dict[str, Any]) -> str:
    """Return the perplexities of the full context and of the best windowed one; empty if they are not known."""
    known = {name: row[name] for name in windowed_contexts() if row.get(name) is not None}
    if row.get("full") is None or not known:
        return ""
    best = row["winner"] if row["winner"] in known else min(known, key=lambda name: known[name])
    return f": at {row['position']}, perplexity is {row['full']:,.2f} with `full` and {known[best]:,.2f} with `{best}`"


def _convergence(findings: Findings) -> str:
    convergence = findings["convergence"]
    count = findings.num_checkpoints
    if convergence.verdict == "unknown" or not convergence.rows:
        evaluations = "1 evaluation is" if count == 1 else f"{count} evaluations are"
        return f"It is not known whether training converged, because {evaluations} too few to tell."
    row = convergence.rows[0]
    change, low, high = (row[key] for key in ("improvement_percent", "improvement_low", "improvement_high"))
    end = f"validation perplexity ended at {row['last']:,.2f}"
    speed = f"{change:.1f} % per 10 % of the run (95 % interval {low:.1f} to {high:.1f})"
    if convergence.verdict == "plateau":
        return f"Training converged: {end} and was improving by only {speed}."
    if convergence.verdict == "falling":
        return f"Training had not converged: {end} and was still improving by {speed}."
    if convergence.verdict == "rising":
        return f"Training got worse at the end: {end}, after a best of {row['best']:,.2f}."
    return f"It is not clear whether training converged: {end} after improving by {speed}."


def _advice(record: Record, findings: Findings) -> str:
    name = quoted(Path(record.name))
    reason = record.metadata.get("result", {}).get("reason")
    training = _TRAINING[findings["convergence"].verdict]
    if record.is_legacy:
        training = "repeat the experiment with tttkit, which keeps the figures missing here"
    elif reason == "nan-stopped":
        training = "lower the learning rate, because training stopped at a loss that was not finite"
    elif reason not in ("finished", "early-stopped"):
        training = f"let training finish, or resume it with `tttkit resume {name}`, before drawing conclusions"
    policy = findings["policy"]
    if policy.verdict != "unknown":
        context = _uses(policy.rows)
    elif record.is_legacy:
        context = "Do not prefer any context"
    elif _has_few_sequences(record):
        context = f"Evaluate at least {FEWEST_SEQUENCES} sequences"
    elif len(findings["winner"].rows) > 1:
        context = f"Run `tttkit eval run {name}` to get intervals"
    else:
        context = "Evaluate beyond the window with a larger `--eval-max-length`"
    return f"{context}; {training}."


def _uses(rows: Sequence[dict[str, Any]]) -> str:
    """Return the advice on contexts from the rows of the policy, with the position from which each context is used."""
    changes = [rows[0], *(row for before, row in pairwise(rows) if row["use"] != before["use"])]
    if len(changes) == 1:
        return f"Use `{rows[0]['use']}` at every measured position"
    last = rows[rows.index(changes[1]) - 1]
    later = [f"`{row['use']}` from {row['position']} on" for row in changes[1:]]
    first = f"`{rows[0]['use']}` up to {last['position']}"
    return f"Use {', '.join([first, *later[:-1]])} and {later[-1]}"
