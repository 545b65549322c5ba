"""Short English phrases for statements: lists of names and of positions."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence: `a`, `a and b`, `a, b and c`."""
    return names[-1] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def places(multiples: Sequence[int]) -> str:
    """Return positions in one phrase: 2, 5 and 10 give `2, 5 and 10 x W`."""
    return f"{listed([str(multiple) for multiple in multiples])} x W"
