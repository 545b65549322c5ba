"""Which context wins where? Winner per position, where the sign changes, which context to use (evaluation.md)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from tttkit.analyze.contest import RULE, WINDOWED, Contest, contests_of_summary, judge
from tttkit.analyze.finding import Finding
from tttkit.analyze.intervals import Intervals, bootstrap
from tttkit.analyze.record import Checkpoint, Record, SequenceNll
from tttkit.analyze.trend import Floats


def contest(context: str, differences: Floats, documents: Any) -> Contest | None:
    """One comparison, from windowed minus full in nats by sequence, (sequences); None where it was not computed."""
    columns = differences[:, None]
    by_sequence = bootstrap(columns)
    if not np.isfinite(by_sequence.observed[0]):
        return None
    names, groups = np.unique(documents, return_inverse=True)
    by_document = bootstrap(columns, groups.astype(np.uint32)) if names.size > 1 else None
    return Contest(
        context=context,
        ratio=float(np.exp(by_sequence.observed[0])),
        low=float(np.exp(by_sequence.low[0])),
        high=float(np.exp(by_sequence.high[0])),
        document_low=None if by_document is None else float(np.exp(by_document.low[0])),
        document_high=None if by_document is None else float(np.exp(by_document.high[0])),
        num_documents=names.size,
    )


def contests(sequences: SequenceNll, column: int) -> list[Contest]:
    """All windowed contexts against `full` at one chunk, as far as they were computed."""
    names = [name for name in WINDOWED if name in sequences.contexts]
    found = [contest(name, _difference(sequences, name)[:, column], sequences.documents) for name in names]
    return [each for each in found if each is not None]


def winners(record: Record, checkpoint: Checkpoint | None = None) -> Finding:
    """Winner per position at a checkpoint, by default the last; without NLL by sequence by its summary's intervals."""
    checkpoint = checkpoint or record.checkpoints[-1]
    sequences = checkpoint.sequences()
    rows, verdicts = [], {}
    for multiple in record.multiples():
        found = [] if multiple == 1 else _contests_at(record, checkpoint, sequences, multiple)
        texts = {f"{contest.context}/full": contest.text() for contest in found} or _without_interval(
            checkpoint, multiple
        )
        winner = "equal by construction" if multiple == 1 else judge(found) if found else "unknown"
        if found:
            verdicts[multiple] = winner
        row = {**_figures(checkpoint, multiple), **dict.fromkeys(_RATIOS), **texts}
        rows.append({**row, "winner": winner.replace("none", "no difference found")})
    if not verdicts:
        return Finding(
            topic="winner", verdict="unknown", rule=RULE, rows=tuple(rows), evidence=_counted(checkpoint, sequences),
            statement="No winner can be named: NLL by sequence was not kept, so no figure has an interval.",
        )  # fmt: skip
    verdict = ", ".join(f"{multiple}xW {name}" for multiple, name in verdicts.items())
    return Finding(
        topic="winner", verdict=verdict, statement=_say(verdicts, _count(checkpoint, sequences)), rule=RULE,
        evidence=_counted(checkpoint, sequences), rows=tuple(rows),
    )  # fmt: skip


def crossover_position(record: Record) -> Finding:
    """Where along the positions the better of `full` and each windowed context changes, at the last checkpoint."""
    rule = (
        "Simultaneous (max-t) 95 % bands of the ratio over all chunks beyond W and all contexts. A crossover lies "
        "between the last chunk where one side is surely better and the next chunk where the other is."
    )
    checkpoint = record.checkpoints[-1]
    sequences = checkpoint.sequences()
    if sequences is None or record.window is None:
        return Finding(
            topic="crossover_position", verdict="unknown", rule=rule, evidence="no NLL by sequence",
            statement="NLL by sequence was not kept, so no simultaneous band can be drawn.",
        )  # fmt: skip
    beyond = sequences.ends > record.window
    names = [name for name in WINDOWED if name in sequences.contexts]
    rows, crossings = [], []
    bands = _bands(sequences, names, beyond)
    for index, name in enumerate(names):
        signs = bands.sign(simultaneous=True).reshape(len(names), -1)[index]
        ends = sequences.ends[beyond]
        for before, after, direction in sign_changes(signs):
            crossings.append((name, int(ends[before]), int(ends[after]), direction))
        rows.append({
            "context": name, "full_surely_better_at": _spans(ends[signs > 0]),
            "full_surely_worse_at": _spans(ends[signs < 0]),
            "chunks_known": int(np.isfinite(bands.observed.reshape(len(names), -1)[index]).sum()),
        })  # fmt: skip
    texts = [
        f"against {name} full turns {'worse' if direction < 0 else 'better'} between positions {low:,} and {high:,}"
        for name, low, high, direction in crossings
    ]
    return Finding(
        topic="crossover_position", verdict="found" if crossings else "none", rule=rule, rows=tuple(rows),
        statement=("; ".join(texts) or "No change of sign along the positions is shown") + ".",
        evidence=f"n = {sequences.documents.size} sequences, {int(beyond.sum())} chunks at {_where(checkpoint)}",
    )  # fmt: skip


def policy(record: Record) -> Finding:
    """Which context to use at which position, from the winners: the cheapest that is not surely beaten."""
    rule = (
        "At each label: the windowed context that surely beats full, the best of them; else full, which needs one pass "
        "and no choice. Chosen and measured on the same sequences, so the gain is an upper estimate."
    )
    found = winners(record)
    if found.verdict == "unknown":
        return Finding(
            topic="policy", verdict="unknown", rule=rule, evidence=found.evidence,
            statement="Without intervals no context can be preferred to another.",
        )  # fmt: skip
    rows: list[dict[str, Any]] = []
    choices: list[tuple[str, str]] = []
    for row in found.rows:
        winner = str(row["winner"])
        choice = winner if winner in WINDOWED else "full"
        gain = None if choice == "full" else 100 * (row["full"] / row[choice] - 1)
        rows.append({"position": row["position"], "use": choice, "gain_percent": gain})
        if not choices or choices[-1][1] != choice:
            choices.append((row["position"], choice))
    texts = [f"from {position} on {choice}" for position, choice in choices[1:]]
    statement = f"Use {choices[0][1]} up to the window" + "".join(f", {text}" for text in texts) + "."
    return Finding(
        topic="policy", verdict=", ".join(f"{position}: {choice}" for position, choice in choices), rule=rule,
        statement=statement, evidence=found.evidence, rows=tuple(rows),
    )  # fmt: skip


def sign_changes(signs: Any) -> list[tuple[int, int, int]]:
    """(last index of the old sign, first index of the new, the new sign) for every change between sure signs."""
    sure = [(index, int(sign)) for index, sign in enumerate(signs) if sign]
    return [(left[0], right[0], right[1]) for left, right in pairwise(sure) if left[1] != right[1]]


_RATIOS = tuple(f"{name}/full" for name in WINDOWED)


def _difference(sequences: SequenceNll, context: str) -> Floats:
    return sequences.contexts[context] - sequences.contexts["full"]


def _bands(sequences: SequenceNll, names: list[str], beyond: Any) -> Intervals:
    return bootstrap(np.concatenate([_difference(sequences, name)[:, beyond] for name in names], axis=1))


def _figures(checkpoint: Checkpoint, multiple: int) -> dict[str, Any]:
    figures = {context: checkpoint.perplexity(context, multiple) for context in ("full", *WINDOWED)}
    return {"position": f"{multiple} x W", **figures}


def _where(checkpoint: Checkpoint) -> str:
    return "an unknown step" if checkpoint.step is None else f"step {checkpoint.step:,}"


def _say(verdicts: dict[int, str], count: Any) -> str:
    groups: dict[str, list[str]] = {}
    for multiple, name in verdicts.items():
        groups.setdefault(name, []).append(f"{multiple} x W")
    parts = []
    for name, where in groups.items():
        places = ", ".join(where)
        if name == "none":
            parts.append(f"no difference found at {places} (n = {count})")
        elif name == "full":
            parts.append(f"full beats every windowed context at {places}")
        else:
            parts.append(f"{name} beats full at {places}")
    text = "; ".join(parts) or "No position beyond W was measured"
    return text[0].upper() + text[1:] + "."


def _contests_at(record: Record, checkpoint: Checkpoint, sequences: SequenceNll | None, multiple: int) -> list[Contest]:
    """All windowed contexts against `full` at one label; of an evaluation without NLL by sequence, its summary's."""
    if sequences is None or record.window is None:
        return contests_of_summary(checkpoint.summary, multiple)
    column = sequences.column(record.window, multiple)
    return [] if column is None else contests(sequences, column)


def _without_interval(checkpoint: Checkpoint, multiple: int) -> dict[str, str]:
    """The ratio alone: what an earlier result file allows."""
    figures = _figures(checkpoint, multiple)
    if multiple == 1 or not figures["sw"] or not figures["full"]:
        return {}
    return {"sw/full": f"{figures['sw'] / figures['full']:.3f} [no interval]"}


def _count(checkpoint: Checkpoint, sequences: SequenceNll | None) -> Any:
    known = checkpoint.summary.get("num_sequences") if sequences is None else sequences.documents.size
    return "unknown" if known is None else known


def _counted(checkpoint: Checkpoint, sequences: SequenceNll | None) -> str:
    """What the figures rest on."""
    count, size = _count(checkpoint, sequences), checkpoint.summary.get("chunk_size")
    documents = np.unique(sequences.documents).size if sequences else checkpoint.summary.get("num_documents")
    parts = [f"n = {count} sequences" + (f" of {documents} documents" if documents else "")]
    if isinstance(count, int) and isinstance(size, int):
        parts.append(f"{count * size:,} tokens a figure")
    return f"{', '.join(parts)}, at {_where(checkpoint)}"


def _spans(ends: Any) -> str | None:
    """Positions as text: few one by one, many as a count and the extremes."""
    values = [int(end) for end in ends]
    if not values:
        return None
    if len(values) <= 4:
        return ", ".join(f"{value:,}" for value in values)
    return f"{len(values)} chunks in {values[0]:,} … {values[-1]:,}"
