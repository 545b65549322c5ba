"""Models whose answers are known, for the tests of `tttkit.diagnose`."""

from __future__ import annotations

import torch

VOCABULARY = 50


class KnownModel:
    """A `ScoringModel` without weights."""

    name, bos_id, adds_bos, vocab_size, mini_batch_size = "known", None, False, VOCABULARY, 1
    device, can_carry, training, max_positions = torch.device("cpu"), False, False, None

    def bytes_per_token(self) -> int:
        return 8

    def eval(self):
        return self

    def train(self, mode=True):
        return self


class LastTokens(KnownModel):
    """Predicts the sum of the last `reach` tokens, with a probability of nearly one."""

    def __init__(self, reach: int) -> None:
        self.reach = reach

    def initial_state(self, batch_size):
        return None

    def next_logits(self, tokens, state):
        answers = tokens[:, -self.reach :].sum(dim=1) % VOCABULARY
        return torch.nn.functional.one_hot(answers, VOCABULARY).mul(30.0), None


class Rereader(KnownModel):
    """Knows a token if the same one stands anywhere before it in its window; every other token costs 5 nats."""

    vocab_size = 10_000

    def score(self, windows, num_scored, *, head_positions=None):
        nll = torch.full((windows.shape[0], windows.shape[1] - 1), 5.0)
        for row, tokens in enumerate(windows.tolist()):
            for place, token in enumerate(tokens[1:]):
                if token in tokens[: place + 1]:
                    nll[row, place] = 0.5
        return nll[:, -num_scored:]
