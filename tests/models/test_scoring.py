"""Figures of positions from their logits."""

import pytest
import torch
import torch.nn.functional as F

from tttkit.models import scoring


@pytest.mark.parametrize("num_positions", [1, 3, 4, 10])
def test_the_nll_has_the_same_bits_in_pieces(monkeypatch, num_positions):
    torch.manual_seed(0)
    logits, targets = torch.randn(num_positions, 50), torch.randint(0, 50, (num_positions,))
    lengths = []

    def watched(some, tokens, **options):
        lengths.append(len(some))
        return whole(some, tokens, **options)

    whole = F.cross_entropy
    expected = whole(logits, targets, reduction="none")
    monkeypatch.setattr(scoring, "_LOGITS_IN_CACHE", 3 * 50 + 49)
    monkeypatch.setattr(F, "cross_entropy", watched)
    assert torch.equal(scoring.nll_of(logits, targets), expected)
    assert lengths == [min(3, num_positions - start) for start in range(0, num_positions, 3)]
