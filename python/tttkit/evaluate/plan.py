"""What an evaluation computes: its labels, the positions of its sliding windows, and what each stage costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tttkit.config.run import EvaluationConfig
from tttkit.evaluate.chunks import LABELS


def labels(window: int, max_length: int) -> list[int]:
    """Multiples m of the window with m W <= T."""
    return [multiple for multiple in LABELS if multiple * window <= max_length]


def positions_only(protocol: EvaluationConfig, context: str) -> bool:
    """Whether a context is computed at the labelled positions alone."""
    return context == "sw" and protocol.sw_mode == "positions"


def labelled_positions(protocol: EvaluationConfig, window: int) -> NDArray[np.int64]:
    """Positions of the chunks at the labels, and all before W, which cost one pass."""
    size, stride = protocol.chunk_size, protocol.chunk_stride
    wanted = [np.arange(min(window, protocol.max_length))]
    for multiple in labels(window, protocol.max_length):
        last = (multiple * window - size) // stride * stride
        wanted.append(np.arange(last, last + size))
    return np.unique(np.concatenate(wanted))


def costs(protocol: EvaluationConfig, window: int, mini_batch_size: int) -> dict[str, float]:
    """Tokens each stage runs through the model, for the progress bar."""
    length, rows = protocol.max_length, protocol.num_sequences
    beyond = max(0, length - window)
    num_sw = beyond
    if protocol.sw_mode == "positions":
        num_sw = int((labelled_positions(protocol, window) >= window).sum())
    return {
        "selection": protocol.selection_windows * window,
        "full": rows * length,
        "reset": rows * length,
        "sw_aligned": rows * (window + beyond * window / mini_batch_size),
        "sw": rows * window * (1 + num_sw),
    }
