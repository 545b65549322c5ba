"""Settings that are left out because an example is too short for what it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tttkit.analyze.phrases import listed


def too_short(needed: Mapping[str, int], lengths: Sequence[int]) -> dict[str, str]:
    """Return which of `lengths` are too short for what, and why, as `left_out` of recall.json has it.

    `needed` has the fewest tokens of an example of each kind.
    """
    left_out = {}
    for kind, least in needed.items():
        short = [f"{length:,}" for length in sorted(set(lengths)) if length < least]
        if short:
            left_out[f"{kind} at {listed(short)} tokens"] = f"an example needs at least {least:,} tokens"
    return left_out
