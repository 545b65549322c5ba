"""The plan of an evaluation: the positions of its sliding windows, and the cost of each stage."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from tttkit.config.run import EvaluationConfig
from tttkit.evaluate.blocks import SELECTION
from tttkit.results.contexts import CONTEXTS, evaluation_order, labels_within


def positions_only(protocol: EvaluationConfig, context: str, mini_batch_size: int) -> bool:
    """Return whether a context is computed only at the labelled positions.

    With an inner mini-batch of one token, `sw_aligned` has the windows of `sw` and costs as much.
    """
    is_sw = context == "sw" or (context == "sw_aligned" and mini_batch_size == 1)
    return is_sw and protocol.sw_mode == "positions"


def labelled_positions(protocol: EvaluationConfig, window: int) -> NDArray[np.int64]:
    """Return all positions before W, which cost one pass, and the positions of the chunks at the labels."""
    size, stride = protocol.chunk_size, protocol.chunk_stride
    wanted = [np.arange(min(window, protocol.max_length))]
    for multiple in labels_within(window, protocol.max_length):
        last = (multiple * window - size) // stride * stride
        wanted.append(np.arange(last, last + size))
    return np.unique(np.concatenate(wanted))


def costs(
    protocol: EvaluationConfig, window: int, mini_batch_size: int, requested: Collection[str] = ()
) -> dict[str, float]:
    """Return the tokens that each stage runs through the model, for the progress bar; `requested` as it is there."""
    length, rows = protocol.max_length, protocol.num_sequences
    at_labels = int((labelled_positions(protocol, window) >= window).sum())
    stages: dict[str, float] = {SELECTION: protocol.selection_windows * window}
    for name in evaluation_order(requested):
        beyond = at_labels if positions_only(protocol, name, mini_batch_size) else max(0, length - window)
        stages[name] = rows * CONTEXTS[name].cost(length, window, mini_batch_size, beyond)
    return stages
