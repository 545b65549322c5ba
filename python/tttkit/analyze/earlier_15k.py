"""The earlier system's 15k run: the figures its documents give, and why they settle nothing. Its files are not kept."""

from __future__ import annotations

from typing import Any

FIGURES: dict[str, float] = {
    "ttt_ppl_at_1xW": 3154.0, "sw_ppl_at_1xW": 3154.0, "ttt_ppl_at_2xW": 3471.0, "sw_ppl_at_2xW": 4952.0,
    "ttt_ppl_at_5xW": 1904.0, "sw_ppl_at_5xW": 2088.0, "ttt_ppl_at_10xW": 3222.0, "sw_ppl_at_10xW": 2755.0,
    "ttt_ppl_at_20xW": 2641.0, "sw_ppl_at_20xW": 3158.0,
}  # fmt: skip
MOST_TOKENS = 7_680_000
FAULTS = (
    "A step was a micro-batch with accumulation 4: 15,000 steps were 3,750 updates, so compare on tokens.",
    "It saw at most 7.68M tokens; a right 100k run sees 26.7 times as many.",
    "Its learning rate was still at 87 % of the peak at the end, for the same reason.",
    "It was another model: feed-forward 2048 and 124.3M parameters, against 3072 and 152.6M.",
    "State was passed between unrelated, shuffled rows, which froze the initial fast weights W1 near their start.",
    "Each line of text was cut or padded to the window; it trained on line starts and was evaluated on packed text.",
    "A figure is the lower median over sequences of one chunk of 16 positions, without an interval.",
    "SW/TTT of 0.855 at 10 x W and of 1.196 at 20 x W have opposite signs: read from single chunks, neither is shown.",
    "At 1 x W the sliding window was overwritten by the full context, so that figure compares nothing.",
    "The crossover that its documents name (step 7,755) was read from such figures, without a band.",
)


def rows() -> list[dict[str, Any]]:
    """Its figures per position, with the ratio SW/TTT."""
    found = []
    for multiple in (1, 2, 5, 10, 20):
        full, windowed = (FIGURES[f"{name}_ppl_at_{multiple}xW"] for name in ("ttt", "sw"))
        ratio = None if multiple == 1 else windowed / full
        found.append({"position": f"{multiple} x W", "TTT": full, "SW": windowed, "SW/TTT": ratio})
    return found
