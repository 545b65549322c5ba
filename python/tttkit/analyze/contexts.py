"""Find which context wins at each position, where the sign changes, and which context to use.

The rule is in docs/protocol.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tttkit.analyze.finding import Finding
from tttkit.analyze.intervals import Intervals, bootstrap
from tttkit.analyze.record import Record, RecordedEvaluation, SequenceNll
from tttkit.analyze.trend import Floats
from tttkit.analyze.winner import (
    FEWEST_DOCUMENTS,
    FEWEST_SEQUENCES,
    NO_DIFFERENCE,
    NO_WINNER,
    RULE,
    UNKNOWN,
    PairedRatio,
    name_winner,
    ratios_of_summary,
)
from tttkit.results.contexts import compared_contexts, contexts_to_show, windowed_contexts


def paired_ratio(context: str, differences: Floats, documents: Any) -> PairedRatio | None:
    """Compare a context with the reference at one position; None if it was not computed.

    `differences` are context minus reference in nats, (sequences,); `documents` is the document of each sequence.
    """
    columns = differences[:, None]
    by_sequence = bootstrap(columns)
    if not np.isfinite(by_sequence.observed[0]):
        return None
    names, groups = np.unique(documents, return_inverse=True)
    by_document = bootstrap(columns, groups.astype(np.uint32)) if names.size > 1 else None
    low, high = _bounds(by_sequence)
    document_low, document_high = (None, None) if by_document is None else _bounds(by_document)
    return PairedRatio(
        context=context, ratio=_exp(by_sequence.observed[0]), low=low, high=high, document_low=document_low,
        document_high=document_high, num_documents=names.size, num_sequences=differences.size,
    )  # fmt: skip


def paired_ratios(sequences: SequenceNll, column: int) -> list[PairedRatio]:
    """Compare every other computed context with `full` at one chunk."""
    ratios = [
        paired_ratio(name, difference_to_full(sequences, name)[:, column], sequences.documents)
        for name in compared_contexts()
        if name in sequences.contexts
    ]
    return [each for each in ratios if each is not None]


def winners(record: Record, evaluation: RecordedEvaluation | None = None) -> Finding:
    """Find the winner at each position of an evaluation, by default the last one.

    If NLL by sequence was not kept, the intervals in the summary decide.
    """
    evaluation = evaluation or record.evaluations[-1]
    sequences = evaluation.sequences()
    contexts = contexts_to_show(evaluation.summary.contexts())
    rows, verdicts = [], {}
    for multiple in record.multiples():
        ratios = [] if multiple == 1 else _ratios_at(record, evaluation, sequences, multiple)
        texts = {_head(each.context): each.text() for each in ratios} or _without_interval(evaluation, multiple)
        winner = "equal by construction" if multiple == 1 else name_winner(ratios) if ratios else "unknown"
        if ratios:
            verdicts[multiple] = winner
        figures = {name: evaluation.summary.perplexity(name, multiple) for name in contexts}
        heads = [_head(name) for name in contexts if name in compared_contexts()]
        row = {"position": f"{multiple} x W", **figures, **dict.fromkeys(heads), **texts}
        rows.append({**row, "winner": NO_DIFFERENCE if winner == NO_WINNER else winner})
    evidence = _evidence(evaluation, sequences)
    if not verdicts:
        return Finding(
            topic="winner", verdict="unknown", rule=RULE, rows=tuple(rows), evidence=evidence,
            statement="No winner can be named because NLL by sequence was not kept, so no figure has an interval.",
        )  # fmt: skip
    if UNKNOWN in verdicts.values():
        count = _count(evaluation, sequences)
        return Finding(
            topic="winner", verdict="unknown", rule=RULE, rows=tuple(rows), evidence=evidence,
            statement=f"No winner is named from n = {count} sequences: {FEWEST_SEQUENCES} are needed.",
        )  # fmt: skip
    statement = _say(verdicts, _count(evaluation, sequences))
    documents = _num_documents(evaluation, sequences)
    if documents and documents < FEWEST_DOCUMENTS:
        statement += f" The sequences come from only {documents} documents, too few to generalize to other text."
    verdict = ", ".join(f"{multiple}xW {name}" for multiple, name in verdicts.items())
    return Finding(topic="winner", verdict=verdict, statement=statement, rule=RULE, evidence=evidence, rows=tuple(rows))


def policy(record: Record) -> Finding:
    """Say which context to use at each position: the winner, or the full context if there is no winner."""
    rule = (
        "At each label, use the windowed context that wins, otherwise full, which needs one pass and no choice. The "
        "context is chosen and measured on the same sequences, so the gain is an upper estimate."
    )
    winner = winners(record)
    if winner.verdict == "unknown":
        return Finding(
            topic="policy", verdict="unknown", rule=rule, evidence=winner.evidence,
            statement="No context can be preferred to another, because no winner can be named.",
        )  # fmt: skip
    rows: list[dict[str, Any]] = []
    choices: list[tuple[str, str]] = []
    for row in winner.rows:
        choice = str(row["winner"]) if row["winner"] in windowed_contexts() else "full"
        gain = None if choice == "full" else 100 * (row["full"] / row[choice] - 1)
        rows.append({"position": row["position"], "use": choice, "gain_percent": gain})
        if not choices or choices[-1][1] != choice:
            choices.append((row["position"], choice))
    texts = [f", {choice} from {position} on" for position, choice in choices[1:]]
    changes = [index for index, row in enumerate(rows) if row["use"] != rows[0]["use"]]
    reach = f"up to {rows[changes[0] - 1]['position']}" if changes else "at every position"
    return Finding(
        topic="policy", verdict=", ".join(f"{position}: {choice}" for position, choice in choices), rule=rule,
        statement=f"Use {choices[0][1]} {reach}{''.join(texts)}.", evidence=winner.evidence, rows=tuple(rows),
    )  # fmt: skip


def _bounds(intervals: Intervals) -> tuple[float | None, float | None]:
    """Return the ends of the first column's interval as ratios; None if there is no interval."""
    known = bool(np.isfinite(intervals.low[0]))
    return (_exp(intervals.low[0]), _exp(intervals.high[0])) if known else (None, None)


def _exp(nats: np.float64) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(nats))


def difference_to_full(sequences: SequenceNll, context: str) -> Floats:
    """Return the NLL of a context minus that of `full` in nats, (sequences, chunks)."""
    return sequences.contexts[context] - sequences.contexts["full"]


def _head(context: str) -> str:
    return f"{context}/full"


def where_of(evaluation: RecordedEvaluation) -> str:
    """Return the step of an evaluation as text."""
    return "an unknown step" if evaluation.step is None else f"step {evaluation.step:,}"


def _say(verdicts: dict[int, str], count: int | str) -> str:
    groups: dict[str, list[str]] = {}
    for multiple, name in verdicts.items():
        groups.setdefault(name, []).append(f"{multiple} x W")
    parts = []
    for name, where in groups.items():
        places = ", ".join(where)
        if name == NO_WINNER:
            parts.append(f"no difference found at {places} (n = {count})")
        elif name == "full":
            parts.append(f"full beats every windowed context at {places}")
        else:
            parts.append(f"{name} beats full at {places}")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."


def _ratios_at(
    record: Record, evaluation: RecordedEvaluation, sequences: SequenceNll | None, multiple: int
) -> list[PairedRatio]:
    """Compare all other contexts with `full` at one label; without NLL by sequence, use the summary."""
    if sequences is None or record.window is None:
        return ratios_of_summary(evaluation.summary, multiple)
    column = sequences.column(record.window, multiple)
    return [] if column is None else paired_ratios(sequences, column)


def _without_interval(evaluation: RecordedEvaluation, multiple: int) -> dict[str, str]:
    """Return the ratios without intervals, which is all that result files of the earlier system allow."""
    if multiple == 1:
        return {}
    ratios = {name: evaluation.summary.ratio(name, multiple).value for name in compared_contexts()}
    return {_head(name): f"{value:.3f} [no interval]" for name, value in ratios.items() if value is not None}


def _count(evaluation: RecordedEvaluation, sequences: SequenceNll | None) -> int | str:
    known = evaluation.summary.num_sequences if sequences is None else sequences.documents.size
    return "unknown" if known is None else known


def _num_documents(evaluation: RecordedEvaluation, sequences: SequenceNll | None) -> int:
    """Return the number of documents in which the sequences begin; 0 if it is not known."""
    return evaluation.summary.num_documents if sequences is None else np.unique(sequences.documents).size


def _evidence(evaluation: RecordedEvaluation, sequences: SequenceNll | None) -> str:
    """Return the numbers of sequences, documents and tokens behind the figures."""
    count, size = _count(evaluation, sequences), evaluation.summary.chunk_size
    documents = _num_documents(evaluation, sequences)
    parts = [f"n = {count} sequences" + (f" of {documents} documents" if documents else "")]
    if isinstance(count, int) and size is not None:
        parts.append(f"{count * size:,} tokens per figure")
    return f"{', '.join(parts)}, at {where_of(evaluation)}"
