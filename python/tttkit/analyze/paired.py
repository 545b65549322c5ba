"""The full context of one run against every context of others, paired by sequence: how a recipe is judged."""

from __future__ import annotations

from typing import Any

from tttkit.analyze.contest import PREFIXES, Contest
from tttkit.analyze.contexts import contest
from tttkit.analyze.legacy import LABELS
from tttkit.analyze.record import SequenceNll

Pairs = dict[tuple[str, str], dict[int, Contest]]
"""(run, context) to label m to its ratio to the first run's full context; above 1 the first run is better."""
RULE = (
    "the full context of the first run is better where it is below every context of the other, each surely, and worse "
    "where any of them is surely below it, by an interval 1.27 times as wide; else no difference was found. A recipe "
    "that changes training is judged so, against the best context of the fresh-state model at equal tokens, never "
    "against its own sw alone."
)


def pair(runs: dict[str, SequenceNll | None], window: int) -> Pairs:
    """Every context of every run against the full context of the first; runs of other sequences are left out."""
    name, first = next(iter(runs.items()))
    if first is None:
        return {}
    return {
        (run, context): _at_labels(first, found, context, window)
        for run, found in runs.items()
        if found is not None and found.same_text(first)
        for context in found.contexts
        if (run, context) != (name, "full")
    }


def ratio_rows(pairs: Pairs) -> list[dict[str, Any]]:
    """A row per run and context: ratio at each label with intervals, `>` or `<` where it surely is not 1."""
    labels = sorted({multiple for found in pairs.values() for multiple in found})
    return [
        {"run": run, "context": context, **{f"{m}xW": _cell(found.get(m)) for m in labels}}
        for (run, context), found in pairs.items()
    ]


def verdict_rows(pairs: Pairs, first: str) -> list[dict[str, Any]]:
    """A row per further run: whose context is better at each label, by `RULE`."""
    labels = sorted({multiple for found in pairs.values() for multiple in found})
    others = dict.fromkeys(run for run, _ in pairs if run != first)
    return [
        {f"full of {first} against": run, **{f"{m}xW": _verdict(pairs, first, run, m) for m in labels}}
        for run in others
    ]


def _at_labels(first: SequenceNll, found: SequenceNll, context: str, window: int) -> dict[int, Contest]:
    contests = {}
    for multiple in LABELS:
        column = first.column(window, multiple)
        if column is None:
            continue
        differences = found.contexts[context][:, column] - first.contexts["full"][:, column]
        each = contest(context, differences, first.documents)
        if each is not None:
            contests[multiple] = each
    return contests


def _cell(found: Contest | None) -> str | None:
    return None if found is None else found.text() + {1: " >", -1: " <"}.get(found.sign, "")


def _verdict(pairs: Pairs, first: str, run: str, multiple: int) -> str:
    known = {context: pairs[run, context].get(multiple) for context in PREFIXES if (run, context) in pairs}
    found = [each for each in known.values() if each is not None]
    ahead = [each for each in found if each.is_ahead]
    if ahead:
        return f"{min(ahead, key=lambda each: each.ratio).context} of {run} better"
    if len(found) == len(PREFIXES) and all(each.sign > 0 for each in found):
        return f"full of {first} better"
    return "no difference found"
