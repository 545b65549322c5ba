"""What a finding is: a statement with its rule, its figures and what it rests on. Plain values, ready for JSON."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One answer. `unknown` is an answer too: it says why."""

    topic: str
    """Which question: `convergence`, `winner`, …"""
    verdict: str
    """The answer in a word or two; `unknown` where the data cannot tell."""
    statement: str
    """The answer in a sentence, with how sure it is."""
    rule: str
    """How the verdict follows from the figures."""
    evidence: str
    """What the figures rest on: sequences, tokens, checkpoints."""
    rows: tuple[dict[str, Any], ...] = ()
    """The figures as a table; every row has the same keys, None where nothing is known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """All answers for one run, in the order of the research questions."""

    run: str
    model: str | None
    window: int | None
    num_checkpoints: int
    last_step: int | None
    last_tokens: int | None
    items: tuple[Finding, ...]

    def __getitem__(self, topic: str) -> Finding:
        """The finding of a topic. Raises KeyError."""
        for item in self.items:
            if item.topic == topic:
                return item
        raise KeyError(topic)

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return dataclasses.asdict(self)
