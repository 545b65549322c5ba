"""The token in front of a text (BOS): models that were trained with one predict badly without it."""

from __future__ import annotations

from tttkit.errors import UsageError
from tttkit.models.scoring import ScoringModel

BOS_CHOICES = ("auto", "always", "never")


def bos_in_front(model: ScoringModel, bos: str) -> int | None:
    """Return the token to put in front of every context, or None.

    `auto` means the model's BOS if it was trained with one, `always` that BOS in any case, `never` none. Raises
    UsageError for another word, or if `always` asks for a BOS that the model does not have.
    """
    if bos not in BOS_CHOICES:
        raise UsageError(f"bos must be one of {', '.join(BOS_CHOICES)}, got {bos!r}")
    if bos == "never" or (bos == "auto" and not model.adds_bos):
        return None
    if model.bos_id is None:
        raise UsageError(
            f"bos must be auto or never, got always: the {model.name} model has no BOS token", hint="--bos auto"
        )
    return model.bos_id


def longest_window(model: ScoringModel, bos_id: int | None) -> int | None:
    """Return the most tokens of a window that the model can read, beside the BOS if there is one; None for no limit."""
    if model.max_positions is None:
        return None
    return model.max_positions - (bos_id is not None)
