"""The earlier system's 15k run: the figures in its documents, and why they prove nothing. Its files are lost."""

from __future__ import annotations

from typing import Any

FIGURES: dict[int, tuple[float, float]] = {
    1: (3154.0, 3154.0),
    2: (3471.0, 4952.0),
    5: (1904.0, 2088.0),
    10: (3222.0, 2755.0),
    20: (2641.0, 3158.0),
}
"""Perplexity of the full context and of the sliding window at m x W, by label m."""
MOST_TOKENS = 7_680_000
FAULTS = (
    "A step was a micro-batch with accumulation 4: 15,000 steps were 3,750 updates, so compare on tokens.",
    "It saw at most 7.68M tokens; a correct 100k run sees 26.7 times as many.",
    "Its learning rate was still at 87 % of the peak at the end, for the same reason.",
    "It was a different model: feed-forward size 2048 and 124.3M parameters instead of 3072 and 152.6M.",
    "State was passed between unrelated, shuffled rows, which froze the initial fast weights W1 near their start.",
    "Each line of text was cut or padded to the window; it trained on line starts and was evaluated on packed text.",
    "Each figure is the lower median over sequences of one chunk of 16 positions, without an interval.",
    "SW/TTT is 0.855 at 10 x W and 1.196 at 20 x W: the signs differ, and single chunks prove neither.",
    "At 1 x W the sliding window was overwritten by the full context, so that figure compares nothing.",
    "The crossover in its documents (step 7,755) was read from such figures, without a band.",
)


def rows() -> list[dict[str, Any]]:
    """Return the run's figures per position, with the ratio SW/TTT."""
    return [
        {
            "position": f"{multiple} x W",
            "TTT": full,
            "SW": windowed,
            "SW/TTT": None if multiple == 1 else windowed / full,
        }
        for multiple, (full, windowed) in FIGURES.items()
    ]
