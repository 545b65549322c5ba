"""A finding: a statement with its rule, its figures and its evidence. Plain values, ready for JSON."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One answer. `unknown` is an answer too, and its statement says why."""

    topic: str
    """The question: `convergence`, `winner`, …"""
    verdict: str
    """The answer in a word or two; `unknown` if the data do not decide."""
    statement: str
    """The answer in a sentence, with its uncertainty."""
    rule: str
    """How the verdict follows from the figures."""
    evidence: str
    """The numbers of sequences, tokens or evaluations behind the figures."""
    rows: tuple[dict[str, Any], ...] = ()
    """The figures as a table; every row has the same keys, with None for what is unknown."""


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
        """Return the finding on a topic. Raises KeyError."""
        for item in self.items:
            if item.topic == topic:
                return item
        raise KeyError(topic)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, for JSON."""
        return dataclasses.asdict(self)
