"""A causal language model of transformers behind the interface that evaluation needs (`scoring.ScoringModel`).

Shapes: N windows, L tokens, D width, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

from tttkit.errors import DataError, TttkitError
from tttkit.models.hugging_face.cache import detach_cache, keep_cached_values
from tttkit.models.hugging_face.decoding import CachedTexts, WholeTexts
from tttkit.models.hugging_face.directory import sees_whole_past
from tttkit.models.hugging_face.forward import Forward
from tttkit.models.hugging_face.package import one_line
from tttkit.models.hugging_face.tokens import Bos
from tttkit.models.scoring import TokenMeasure, nll_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traits:
    """What the checks at load found out about a model (`checks.py`)."""

    can_carry: bool
    """Whether segments through the model's cache equal one pass."""
    has_split_head: bool
    """Whether logits of given hidden states equal those of one ordinary pass."""
    max_positions: int | None
    """Number of learned absolute positions; None for a model without."""
    bytes_per_token: int
    notes: tuple[str, ...] = ()
    """Sentences for the user about what the checks found."""


class HuggingFaceModel:
    """A `ScoringModel` around a model of transformers. Windows start at position 0, without padding or mask."""

    mini_batch_size = 1

    def __init__(
        self,
        module: nn.Module,
        traits: Traits,
        *,
        name: str,
        bos: Bos,
        weights_sha256: str,
        trained_positions: int | None,
        end_ids: frozenset[int] = frozenset(),
    ) -> None:
        """`module` is the model in evaluation mode, `name` its model_type."""
        self.module = module
        self.traits = traits
        self.name = name
        self.bos_id = bos.id
        self.adds_bos = bos.is_added
        self.end_ids = end_ids
        self.trained_positions = trained_positions
        """Longest text of training, as config.json says; None if it says nothing."""
        self._weights_sha256 = weights_sha256
        self._forward = Forward(module)
        self.training = module.training

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding; every token id is smaller."""
        return int(self.module.get_input_embeddings().num_embeddings)  # type: ignore[operator]

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type in which the model computes; NLL is always float32."""
        return next(tensor.dtype for tensor in self.module.parameters() if tensor.is_floating_point())

    @property
    def max_positions(self) -> int | None:
        """Number of learned absolute positions, in tokens; None for a model without."""
        return self.traits.max_positions

    @property
    def can_carry(self) -> bool:
        """Whether `carry` over the segments of a text equals one pass, as it was measured at load."""
        return self.traits.can_carry

    @property
    def sees_whole_past(self) -> bool:
        """Whether every layer attends to all earlier tokens, as config.json says."""
        return sees_whole_past(self.module.config.to_dict())  # type: ignore[union-attr, operator]

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about what the checks at load found."""
        return self.traits.notes

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the weights as they were loaded; some models change theirs at the first pass."""
        return self._weights_sha256

    def bytes_per_token(self) -> int:
        """Return an estimate of the peak memory of a forward pass without head, in bytes per token."""
        return self.traits.bytes_per_token

    def to(self, device: torch.device | str) -> Self:
        """Move the model to a device."""
        self.module.to(device)
        return self

    def eval(self) -> Self:
        """Switch to evaluation mode."""
        return self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, or to evaluation mode if `mode` is False."""
        self.training = mode
        self.module.train(mode)
        force_one_kernel(self.module)
        return self

    def score(
        self,
        windows: Tensor,
        num_scored: int,
        *,
        head_positions: int | None = None,
        measure: TokenMeasure = nll_of,
    ) -> Tensor:
        """Return the NLL in nats, (N, num_scored) float32, of the last tokens of windows (N, L+1) int64.

        Another `measure` takes the place of the NLL.
        """
        ids, targets = windows[:, :-1], windows[:, -num_scored:]
        with self._one_line(*ids.shape):
            if self.traits.has_split_head:
                hidden_states, _ = self._forward.hidden_states(ids)
                return self._measured(hidden_states[:, -num_scored:], targets, head_positions, measure)
            rows = zip(ids, targets, strict=True)
            return torch.cat([self._measured_row(*row, num_scored, measure) for row in rows])

    def carry(
        self, windows: Tensor, state: Any, *, head_positions: int | None = None, measure: TokenMeasure = nll_of
    ) -> tuple[Tensor, Any]:
        """Score a segment of a longer text: return the NLL (N, L) of windows (N, L+1), and the state after it.

        The model changes a state in place, so each can be continued once.
        """
        has_gradient = torch.is_grad_enabled() and state is not None
        ids = windows[:, :-1]
        with self._one_line(*ids.shape), keep_cached_values(state) if has_gradient else nullcontext():
            hidden_states, after = self._forward.hidden_states(ids, state, keep_cache=True)
            return self._measured(hidden_states, windows[:, 1:], head_positions, measure), after

    def detach_state(self, state: Any) -> Any:
        """Return a state of `carry` that is cut from the graph; it is changed in place."""
        return detach_cache(state)

    def initial_state(self, batch_size: int) -> CachedTexts | WholeTexts:
        """Return the state before any text, for B rows. It is a cache where segments equal one pass."""
        if self.can_carry:
            return CachedTexts(position=0, rows=tuple(range(batch_size)), num_cached=batch_size)
        return WholeTexts(ids=torch.empty(batch_size, 0, dtype=torch.int64, device=self.device))

    def next_logits(
        self, input_ids: Tensor, state: CachedTexts | WholeTexts
    ) -> tuple[Tensor, CachedTexts | WholeTexts]:
        """Read tokens (B, L); return the logits (B, V) float32 of the token after them, and the state.

        The given state is not used again: the model changes its cache in place.
        """
        with self._one_line(*input_ids.shape):
            return state.read(self._forward, input_ids)

    @contextmanager
    def _one_line(self, num_rows: int, num_tokens: int) -> Iterator[None]:
        """Turn a failure inside the model into one line; a lack of memory stays what it is."""
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, TttkitError):
            raise
        # code that is not ours may raise anything
        except Exception as error:
            raise DataError(
                f"the {self.name} model fails on {num_rows} x {num_tokens} tokens: {one_line(error)}",
                hint="another length may work",
            ) from error

    def _measured(
        self, hidden_states: Tensor, targets: Tensor, head_positions: int | None, measure: TokenMeasure
    ) -> Tensor:
        """Return the measure (N, P) of targets (N, P) given hidden states (N, P, D), a block of positions at a time."""
        flat, next_tokens = hidden_states.flatten(0, 1), targets.flatten()
        parts = zip(*(torch.split(each, head_positions or len(flat)) for each in (flat, next_tokens)), strict=True)
        return torch.cat([measure(self._forward.logits(part), target) for part, target in parts]).view(targets.shape)

    def _measured_row(self, ids: Tensor, targets: Tensor, num_scored: int, measure: TokenMeasure) -> Tensor:
        """Return the measure (1, P) of one row, from all its logits; for a model whose head does not stand alone."""
        logits = self._forward.whole_logits(ids[None])[0, -num_scored:]
        return measure(logits, targets)[None]


def force_one_kernel(module: nn.Module) -> None:
    """Make layers of flash-linear-attention run their chunked kernel at every length.

    In evaluation mode they run another kernel up to 64 tokens, so windows of 64 would not agree with longer texts. The
    layer itself decides by its flag `training`; its parts, dropout included, keep evaluation mode.
    """
    for part in module.modules():
        if type(part).__module__.startswith("fla.layers") and hasattr(part, "mode"):
            part.training = True
