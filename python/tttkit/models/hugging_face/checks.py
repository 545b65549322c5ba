"""Checks of a transformers model at load: no claim about it is believed that a few short passes can test.

Several families ignore an unknown cache argument in silence, forget a part of their state between segments, or see
later tokens. Shapes: N windows, L tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tttkit.errors import DataError
from tttkit.models.hugging_face.forward import Forward
from tttkit.models.hugging_face.model import Traits

_LENGTH = 97
"""Tokens of a test text: longer than the 64 at which some kernels change."""
_LONGEST = 600
"""Tokens of the longest test text, where a model attends to a window."""
_SINGLE_TOKEN = 1
_PREFIX = 40
_COPIES = 6
"""Tensors of the largest size that a forward pass holds at once, as an estimate."""
_ODD = (TypeError, AttributeError, KeyError, IndexError, ValueError, RuntimeError)
"""What a forward pass of an unusual form may raise when its halves run on their own, or with a cache."""
_MOST_PROBED = 4096
"""Tokens of the longest text that is read at load to see whether positions end."""
_HEADS = ("num_attention_heads", "n_head", "n_heads")
"""Keys of the configs of attention models, of which some have tables of positions but take none as an argument."""
_WINDOW_KEYS = ("sliding_window", "attention_window_size")
_SPARE_POSITIONS = 8
"""Rows that a position embedding may have beyond the positions that the config names (OPT has two)."""


def find_traits(module: nn.Module, *, name: str, trained_positions: int | None) -> Traits:
    """Run a few short texts through a model in evaluation mode, and return what they show.

    Raises DataError for a model whose predictions depend on later tokens.
    """
    forward = Forward(module)
    with torch.inference_mode():
        limit = _max_positions(forward, module, trained_positions)
        ids = _test_text(module, limit)
        with _LargestTensor() as with_head:
            whole = _nll(forward.whole_logits(ids[:, :-1]), ids[:, 1:])
        if not whole.isfinite().all():
            raise DataError(f"the {name} model gives logits that are not finite, for a text of {ids.shape[1]} tokens")
        _check_causal(forward, ids, whole, name)
        split, bytes_without_head = _has_split_head(forward, ids, whole)
        difference = _segment_difference(forward, ids, whole) if split else None
    can_carry = difference is not None and forward.is_rounding(difference)
    largest = bytes_without_head if split else with_head.num_bytes
    return Traits(
        can_carry=can_carry, has_split_head=split, max_positions=limit,
        bytes_per_token=max(1, _COPIES * largest // whole.numel()),
        notes=() if can_carry else (_why_one_pass(difference, name),),
    )  # fmt: skip


def _test_text(module: nn.Module, limit: int | None) -> Tensor:
    """Return two random texts (2, L+1), longer than the window of attention if that is short."""
    config = module.config
    windows = [value for key in _WINDOW_KEYS if isinstance(value := getattr(config, key, None), int)]
    length = max([_LENGTH, *(2 * value + 1 for value in windows if 2 * value < _LONGEST)])
    size = module.get_input_embeddings().num_embeddings  # type: ignore[operator]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, int(size), (2, min(length, limit or length) + 1), generator=generator)
    return ids.to(next(module.parameters()).device)


def _nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the NLL (N, L) of targets (N, L) given logits (N, L, V)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)


def _check_causal(forward: Forward, ids: Tensor, whole: Tensor, name: str) -> None:
    """Refuse a model that predicts a token differently when later tokens are there."""
    prefix = min(_PREFIX, ids.shape[1] // 2)
    difference = (_nll(forward.whole_logits(ids[:, :prefix]), ids[:, 1 : prefix + 1]) - whole[:, :prefix]).abs()
    if not forward.is_rounding(difference):
        raise DataError(
            f"the {name} model is not causal: its predictions change by up to {float(difference.max()):.2g} nats when "
            "later tokens are added",
            hint="name a decoder-only model; an encoder cannot be measured by perplexity",
        )


def _has_split_head(forward: Forward, ids: Tensor, whole: Tensor) -> tuple[bool, int]:
    """Return whether the head on given hidden states gives the logits of an ordinary pass.

    The second value is the size in bytes of the largest tensor that the backbone computes.
    """
    if not forward.has_split_head:
        return False, 0
    try:
        with _LargestTensor() as largest:
            hidden_states, _ = forward.hidden_states(ids[:, :-1])
        blocks = torch.split(hidden_states.flatten(0, 1), whole.numel() // 2 + 1)
        logits = torch.cat([forward.logits(block) for block in blocks])
    # a model whose forward pass is built in another way; it still gives whole logits
    except _ODD:
        return False, 0
    difference = (_nll(logits.view(*whole.shape, -1), ids[:, 1:]) - whole).abs()
    return forward.is_rounding(difference), largest.num_bytes


def _segment_difference(forward: Forward, ids: Tensor, whole: Tensor) -> Tensor | None:
    """Return |segments - one pass| (N, L), or None if the model has no cache that continues a text.

    The pieces have several lengths and end with single tokens, which run other code in some models.
    """
    if forward.cache_name is None:
        return None
    length = whole.shape[1]
    sizes = [length // 2, length // 3, length - length // 2 - length // 3 - 2 * _SINGLE_TOKEN] + [_SINGLE_TOKEN] * 2
    parts, cache = [], None
    try:
        for piece in torch.split(ids[:, :-1], sizes, dim=1):
            hidden_states, cache = forward.hidden_states(piece, cache, keep_cache=True)
            if cache is None:
                return None
            parts.append(forward.logits(hidden_states.flatten(0, 1)).view(*piece.shape, -1))
        return (_nll(torch.cat(parts, dim=1), ids[:, 1:]) - whole).abs()
    except _ODD:
        return None


def _why_one_pass(difference: Tensor | None, name: str) -> str:
    if difference is None:
        return f"the {name} model cannot continue a text from a cache, so `full` reads each text in one pass"
    return (
        f"the {name} model gives other numbers in segments than in one pass (by up to {float(difference.max()):.2g} "
        "nats), so `full` reads each text in one pass"
    )


def _max_positions(forward: Forward, module: nn.Module, trained_positions: int | None) -> int | None:
    """Return the positions that the model has, if it has a table of them that ends; None if it reads any length.

    The table is a position embedding as long as the config says, or anything that fails at the first position beyond.
    """
    if trained_positions is None:
        return None
    tokens = module.get_input_embeddings()  # type: ignore[operator]
    rows = {part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding) and part is not tokens}
    if any(trained_positions <= count <= trained_positions + _SPARE_POSITIONS for count in rows):
        return trained_positions
    reads_on = forward.reads_position(trained_positions)
    if reads_on is None and trained_positions <= _MOST_PROBED and any(hasattr(module.config, key) for key in _HEADS):
        reads_on = _reads(forward, trained_positions + 1, module)
    return trained_positions if reads_on is False else None


def _reads(forward: Forward, length: int, module: nn.Module) -> bool:
    """Return whether the model reads a text of `length` tokens."""
    ids = torch.zeros(1, length, dtype=torch.int64, device=next(module.parameters()).device)
    try:
        forward.hidden_states(ids)
    except (IndexError, RuntimeError):
        return False
    return True


class _LargestTensor(TorchDispatchMode):
    """Records the bytes of the largest tensor that is computed; views of other tensors do not count."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {each.untyped_storage().data_ptr() for each in args if isinstance(each, Tensor)}
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in known:
                self.num_bytes = max(self.num_bytes, tensor.numel() * tensor.element_size())
        return result
