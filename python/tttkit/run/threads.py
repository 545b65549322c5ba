"""The chosen number of CPU threads: the reason for it, its record in JSON, and its line of text. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

MEASURED = "measured"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThreadChoice:
    """A number of CPU threads and the reason for it."""

    num_threads: int
    why: str
    """`measured`, or the name of the setting or the circumstance that decided."""
    tokens_per_second: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """Measured throughput by number of threads; empty if nothing was measured."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with the keys `chosen`, `why` and `measured`."""
        measured = {str(count): round(speed, 1) for count, speed in sorted(self.tokens_per_second.items())}
        return {"chosen": self.num_threads, "why": self.why, "measured": measured}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the choice that `to_dict` was called on."""
        measured = {int(count): float(speed) for count, speed in values["measured"].items()}
        return cls(num_threads=values["chosen"], why=values["why"], tokens_per_second=measured)


def describe_threads(choice: Mapping[str, Any]) -> str:
    """Describe the result of `ThreadChoice.to_dict` in one line of text."""
    count, measured = choice["chosen"], choice["measured"]
    text = f"{count} thread{'' if count == 1 else 's'} ({choice['why']}"
    if not measured:
        return f"{text})"
    counts = sorted(measured, key=int)
    return f"{text}; tokens/s: {', '.join(f'{measured[number]:,.0f} with {number}' for number in counts)})"


def thread_counts(cores: int) -> list[int]:
    """Return the numbers of threads to compare: all cores, half of them, …, 1."""
    counts = [cores]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    return counts
