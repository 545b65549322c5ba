"""What a judge, another model, says about texts: their NLL, and the features that MAUVE compares.

Shapes: N texts, M tokens of each continuation, V vocabulary of the judge.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tttkit.evaluate.nll import token_nll
from tttkit.models.scoring import LoadedModel

Ids = NDArray[np.int64]


def judged_nll(judge: LoadedModel, texts: Ids, num_tokens: int, bos: str) -> NDArray[np.float32]:
    """Return the judge's mean NLL in nats of the last `num_tokens` tokens of texts (N, T), float32 (N)."""
    positions = np.arange(texts.shape[1] - 1 - num_tokens, texts.shape[1] - 1)
    nll = token_nll(judge, texts, positions=positions, bos=bos)
    mean: NDArray[np.float32] = nll[:, positions].mean(axis=1)
    return mean


def features(judge: LoadedModel, ids: Ids, rows: int) -> NDArray[np.float32]:
    """Return the judge's logits (N, V) after continuations (N, M), `rows` of them at once."""
    parts = []
    for first in range(0, len(ids), rows):
        part = torch.from_numpy(ids[first : first + rows]).to(judge.device)
        logits, _ = judge.next_logits(part, judge.initial_state(len(part)))
        parts.append(logits.float().cpu().numpy())
    return np.concatenate(parts)
