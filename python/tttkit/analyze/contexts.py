"""Which context wins where? Winner per position, where the sign changes, which context to use (evaluation.md)."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np

from tttkit.analyze.finding import Finding
from tttkit.analyze.intervals import Intervals, bootstrap
from tttkit.analyze.record import WINDOWED, Checkpoint, Record, SequenceNll
from tttkit.analyze.trend import Floats

LEAST_DOCUMENTS = 10
"""Below so many documents the interval over documents is shown but decides nothing."""
RULE = (
    "full wins at m x W where it is below sw, sw_aligned and reset, each with a 95 % interval of the ratio that "
    "excludes 1 (paired bootstrap over sequences; over documents too where there are at least 10). A windowed context "
    "wins where its interval is wholly below 1. Else no difference was found. 1 x W is equal by construction, and at a "
    "label sw_aligned and reset see the same window where a chunk is one inner mini-batch."
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

    def text(self) -> str:
        """ratio [low, high], with the interval over documents where there are several."""
        text = f"{self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"
        if self.document_low is not None and self.document_high is not None:
            text += f" docs [{self.document_low:.3f}, {self.document_high:.3f}]"
        return text


def contests(sequences: SequenceNll, column: int) -> list[Contest]:
    """All windowed contexts against `full` at one chunk, as far as they were computed."""
    names = [name for name in WINDOWED if name in sequences.contexts]
    differences = np.stack([_difference(sequences, name)[:, column] for name in names], axis=1)
    by_sequence = bootstrap(differences)
    num_documents = np.unique(sequences.documents).size
    by_document = bootstrap(differences, _number(sequences)) if num_documents > 1 else None
    return [
        Contest(
            context=name,
            ratio=float(np.exp(by_sequence.observed[index])),
            low=float(np.exp(by_sequence.low[index])),
            high=float(np.exp(by_sequence.high[index])),
            document_low=None if by_document is None else float(np.exp(by_document.low[index])),
            document_high=None if by_document is None else float(np.exp(by_document.high[index])),
            num_documents=num_documents,
        )
        for index, name in enumerate(names)
        if np.isfinite(by_sequence.observed[index])
    ]


def judge(found: list[Contest]) -> str:
    """`full`, the name of the best windowed context that surely beats it, or `none`: no difference found."""
    ahead = [contest for contest in found if contest.sign < 0]
    if ahead:
        # reset and sw_aligned are the same windows at the labels; the cheaper is named.
        return min(reversed(ahead), key=lambda contest: contest.ratio).context
    complete = {contest.context for contest in found} == set(WINDOWED)
    return "full" if complete and all(contest.sign > 0 for contest in found) else "none"


def winners(record: Record, checkpoint: Checkpoint | None = None) -> Finding:
    """Winner per position at a checkpoint, by default the last."""
    checkpoint = checkpoint or record.checkpoints[-1]
    sequences = checkpoint.sequences()
    if sequences is None or record.window is None:
        return _without_sequences(record, checkpoint)
    rows, verdicts = [], {}
    for multiple in record.multiples():
        column = sequences.column(record.window, multiple)
        if multiple == 1 or column is None:
            rows.append({**_figures(checkpoint, multiple), **dict.fromkeys(_RATIOS), "winner": "equal by construction"})
            continue
        found = contests(sequences, column)
        verdicts[multiple] = judge(found)
        texts = {f"{contest.context}/full": contest.text() for contest in found}
        row = {**_figures(checkpoint, multiple), **dict.fromkeys(_RATIOS), **texts}
        rows.append({**row, "winner": verdicts[multiple].replace("none", "no difference found")})
    count = sequences.documents.size
    documents = np.unique(sequences.documents).size
    evidence = f"n = {count} sequences of {documents} documents at {_where(checkpoint)}"
    statement = _say(verdicts, count)
    verdict = ", ".join(f"{multiple}xW {name}" for multiple, name in verdicts.items()) or "unknown"
    return Finding(topic="winner", verdict=verdict, statement=statement, rule=RULE, evidence=evidence, rows=tuple(rows))


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


def _number(sequences: SequenceNll) -> Any:
    """Groups counted from 0 without gaps."""
    return np.unique(sequences.documents, return_inverse=True)[1].astype(np.uint32)


def _figures(checkpoint: Checkpoint, multiple: int) -> dict[str, Any]:
    figures = {context: checkpoint.perplexity(context, multiple) for context in ("full", *WINDOWED)}
    return {"position": f"{multiple} x W", **figures}


def _where(checkpoint: Checkpoint) -> str:
    return "an unknown step" if checkpoint.step is None else f"step {checkpoint.step:,}"


def _say(verdicts: dict[int, str], count: int) -> str:
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


def _without_sequences(record: Record, checkpoint: Checkpoint) -> Finding:
    """Figures without a winner: what an earlier result file allows."""
    rows = []
    for multiple in record.multiples():
        figures = _figures(checkpoint, multiple)
        ratio = figures["sw"] / figures["full"] if figures["sw"] and figures["full"] and multiple > 1 else None
        texts = {**dict.fromkeys(_RATIOS), "sw/full": None if ratio is None else f"{ratio:.3f} [no interval]"}
        rows.append({**figures, **texts, "winner": "equal by construction" if multiple == 1 else "unknown"})
    count = checkpoint.summary.get("num_sequences")
    size = checkpoint.summary.get("chunk_size")
    tokens = f"{count * size:,} tokens a figure" if isinstance(count, int) and isinstance(size, int) else "size unknown"
    return Finding(
        topic="winner", verdict="unknown", rule=RULE, rows=tuple(rows),
        statement="No winner can be named: NLL by sequence was not kept, so no figure has an interval.",
        evidence=f"{tokens}, at {_where(checkpoint)}",
    )  # fmt: skip


def _spans(ends: Any) -> str | None:
    """Positions as text: few one by one, many as a count and the extremes."""
    values = [int(end) for end in ends]
    if not values:
        return None
    if len(values) <= 4:
        return ", ".join(f"{value:,}" for value in values)
    return f"{len(values)} chunks in {values[0]:,} … {values[-1]:,}"
