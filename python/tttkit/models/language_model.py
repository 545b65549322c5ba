"""The language model around the sequence layers: embedding, blocks, final norm, head.

Shapes: B batch, L length, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.backbone import Backbone, reset_parameters
from tttkit.models.block import Block, BlockFunction
from tttkit.models.diagnostics import diagnose
from tttkit.models.digest import weights_sha256
from tttkit.models.head_loss import head_loss
from tttkit.models.layers import SequenceLayer, upcast
from tttkit.models.scoring import TokenMeasure, nll_of
from tttkit.models.state import LayerState, ModelState, check_state

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig


class LanguageModel(nn.Module):
    """Next-token model: `model(input_ids)` returns logits. Parameter names are the official ones.

    It is also a `scoring.ScoringModel`. Its capabilities follow from the capabilities of its blocks.
    """

    bos_id: int | None = None
    """No token stands in front of a text, because training texts begin without one."""
    adds_bos = False
    end_ids: frozenset[int] = frozenset()
    """The tokenizer's end-of-text token is the only one that ends a text."""
    trained_positions: int | None = None
    """The model can read texts of any length."""
    notes: tuple[str, ...] = ()
    """Nothing is to be said about a model whose code is ours."""

    def __init__(self, config: ModelConfig, sequence_layer: Callable[[ModelConfig], SequenceLayer]) -> None:
        super().__init__()
        self.config = config
        self.scoring_dtype: torch.dtype | None = None
        """Floating-point type of the products in `score` and `carry`; None for that of the weights."""
        self.model = Backbone(config, sequence_layer)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        reset_parameters(self, self._blocks, config.initializer_range)

    def forward(
        self,
        input_ids: Tensor,
        targets: Tensor | None = None,
        state: ModelState | None = None,
        function: BlockFunction | None = None,
        scored: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, ModelState]:
        """Return the logits (B, L, V), float32, of the token after each position; every row is a text of its own.

        With `targets` (B, L), the next tokens, return the mean cross-entropy in nats instead, a float32 scalar, over
        the targets where `scored` (B, L) bool is True, or over all of them without it. With `state`, continue from it
        and return a pair: logits or loss, and the state after the segment. `function` is a compiled `Block.compute`
        that runs every block (`compiled.py`).

        `input_ids` is (B, L) int64 or int32. Raises TypeError for another dtype and ValueError for another number of
        dimensions, a length of zero, targets of another shape, a state that does not fit or, on a CPU, ids outside
        the vocabulary.
        """
        if targets is not None and targets.shape != input_ids.shape:
            raise ValueError(
                f"targets must have the shape of input_ids, got {tuple(targets.shape)} and {tuple(input_ids.shape)}"
            )
        if state is None:
            after, hidden_states = None, self.hidden_states(input_ids, function=function)
        else:
            hidden_states, after = self.advance(input_ids, state, function)
        result = self.head(hidden_states) if targets is None else self._mean_loss(hidden_states, targets, scored)
        return result if after is None else (result, after)

    def step(self, input_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Continue from `state`: return the logits (B, L, V) of a segment of any length, and the state after it.

        The result is differentiable in parameters and state, and equals one pass over all the text, however it is cut
        into segments. After `state.detach()` the initial fast weights still get their gradient. Errors as in `forward`.
        """
        logits, after = self(input_ids, state=state)
        return logits, after

    def hidden_states(
        self, input_ids: Tensor, *, last: int | None = None, function: BlockFunction | None = None
    ) -> Tensor:
        """Return the final hidden states (B, L, D), ready for `head`; `function` as in `forward`.

        With `last`, return those of the last positions only, (B, last, D): the last layer then skips everything that
        only the other positions need.
        """
        x = self.model.embed(input_ids)
        *lower, top = self.model.layers
        for block in lower:
            x, _ = block(x, function=function)
        x, _ = top(x, last=last, function=function)
        normed: Tensor = self.model.norm(x)
        return normed

    def advance(
        self, input_ids: Tensor, state: ModelState, function: BlockFunction | None = None
    ) -> tuple[Tensor, ModelState]:
        """Continue as `step` does, but return the final hidden states (B, L, D) in place of the logits."""
        x = self.model.embed(input_ids)
        check_state(state, self._empty_state(), batch_size=x.shape[0])
        layers = []
        for block, before in zip(self._blocks, state.layers, strict=True):
            x, after = block(x, before, state.position, function=function)
            layers.append(after)
        return self.model.norm(x), ModelState(position=state.position + input_ids.shape[1], layers=tuple(layers))

    def next_logits(self, input_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Return the logits (B, V), float32, of the token after `input_ids` (B, L), and the state; as in `step`."""
        with self._scoring_precision():
            hidden_states, after = self.advance(input_ids, state)
            return self.head(hidden_states[:, -1]).float(), after

    def head(self, hidden_states: Tensor) -> Tensor:
        """Return the logits (…, V), float32, of hidden states (…, D)."""
        return upcast(F.linear(hidden_states, self._head_weight))

    def loss(self, hidden_states: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy, a scalar, of hidden states (…, D) and their next tokens (…) int64.

        It equals the cross-entropy of `head(hidden_states)`, but takes less time and memory (`head_loss.py`).
        """
        return head_loss(hidden_states, self._head_weight, targets)

    def _mean_loss(self, hidden_states: Tensor, targets: Tensor, scored: Tensor | None) -> Tensor:
        if scored is None:
            return self.loss(hidden_states, targets)
        return self.loss(hidden_states[scored], targets[scored])

    def initial_state(self, batch_size: int) -> ModelState:
        """Return the state before any text, for B rows, on the model's device."""
        return ModelState(position=0, layers=tuple(block.initial_state(batch_size) for block in self._blocks))

    @property
    def module(self) -> nn.Module:
        """The module that holds the weights: the model itself."""
        return self

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.model.embed_tokens.weight.device

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model knows."""
        return self.config.vocab_size

    @property
    def name(self) -> str:
        """The value of `--model` for this model."""
        return self.config.name

    @property
    def mini_batch_size(self) -> int:
        """Tokens C that a state learns from together; windows of the context sw_aligned start on multiples of C."""
        return self.config.mini_batch_size

    @property
    def max_positions(self) -> int | None:
        """Longest text that the model can read: None, for no limit."""
        return None

    @property
    def can_carry(self) -> bool:
        """Whether `carry` over the segments of a text equals one pass: always True."""
        return True

    @property
    def has_state(self) -> bool:
        """Whether a state may be the initial state of a following window (`train.initial_state = contiguous`)."""
        return all(block.seq_modeling_block.has_state for block in self._blocks)

    @property
    def sees_whole_past(self) -> bool:
        """Whether every layer attends to all earlier tokens."""
        return all(block.seq_modeling_block.sees_whole_past for block in self._blocks)

    def decayed_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that weight decay applies to, as the layers declare them."""
        for block in self._blocks:
            yield from block.decayed_parameters()

    def flops_per_token(self, length: int) -> float:
        """Return the floating-point operations of forward and backward per token of a text of `length` tokens.

        The head counts, but the embedding, norms, convolutions and pointwise operations do not.
        """
        head = 6.0 * self.config.vocab_size * self.config.hidden_size
        return head + sum(block.flops_per_token(length) for block in self._blocks)

    def state_bytes(self, batch_size: int, length: int = 0) -> int:
        """Return the bytes of the recurrent state of `batch_size` rows after `length` tokens."""
        return sum(block.state_bytes(batch_size, length) for block in self._blocks)

    def weights_sha256(self) -> str:
        """Return the SHA-256 over names, dtypes, shapes and bytes of all parameters."""
        return weights_sha256(self)

    def bytes_per_token(self) -> int:
        """Return the peak memory of a forward pass without gradients and without head, in bytes per token."""
        return max(block.bytes_per_token() for block in self._blocks)

    @torch.no_grad()
    def diagnostics(self, input_ids: Tensor, state: ModelState | None = None) -> dict[str, list[float]]:
        """Return the layers' figures about a text (B, L) read from `state`; empty if no layer reports any.

        See `diagnostics.py` for the figures and their cost.
        """
        return diagnose(self, [block.seq_modeling_block for block in self._blocks], input_ids, state)

    def score(
        self,
        windows: Tensor,
        num_scored: int,
        *,
        head_positions: int | None = None,
        measure: TokenMeasure = nll_of,
    ) -> Tensor:
        """Return the NLL in nats, (N, num_scored) float32, of the last tokens of windows (N, L+1) int64.

        Another `measure` takes the place of the NLL. Every window starts from the initial state. At most
        `head_positions` positions go through the head at once.
        """
        last = None if num_scored == windows.shape[1] - 1 else num_scored
        with self._scoring_precision():
            hidden_states = self.hidden_states(windows[:, :-1], last=last)  # (N, num_scored, D)
            return self._measured(hidden_states, windows[:, -num_scored:], head_positions, measure)

    def carry(
        self,
        windows: Tensor,
        state: ModelState | None,
        *,
        head_positions: int | None = None,
        measure: TokenMeasure = nll_of,
    ) -> tuple[Tensor, ModelState]:
        """Score a segment of a longer text: return the NLL (N, L) of windows (N, L+1), and the state after it.

        `state` None starts the text. The last token of a segment is the first of the next.
        """
        before = self.initial_state(windows.shape[0]) if state is None else state
        with self._scoring_precision():
            hidden_states, after = self.advance(windows[:, :-1], before)
            return self._measured(hidden_states, windows[:, 1:], head_positions, measure), after

    def detach_state(self, state: ModelState) -> ModelState:
        """Return a state of `carry` that is cut from the graph; the initial weights still get a gradient."""
        return state.detach()

    def _scoring_precision(self) -> AbstractContextManager[object]:
        if self.scoring_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.scoring_dtype)

    def _measured(
        self, hidden_states: Tensor, targets: Tensor, head_positions: int | None, measure: TokenMeasure
    ) -> Tensor:
        """Return the measure (N, L) of targets (N, L), given hidden states (N, L, D)."""
        flat, next_tokens = hidden_states.flatten(0, 1), targets.flatten()
        size = head_positions or len(flat)
        parts = zip(torch.split(flat, size), torch.split(next_tokens, size), strict=True)
        return torch.cat([measure(self.head(part).float(), target) for part, target in parts]).view(targets.shape)

    def _empty_state(self) -> list[LayerState]:
        """Return the initial states of all layers with zero rows; layers of the same kind share one."""
        kinds = self.config.layer_kinds
        states = {kind: block.initial_state(0) for kind, block in dict(zip(kinds, self._blocks, strict=True)).items()}
        return [states[kind] for kind in kinds]

    @property
    def _blocks(self) -> tuple[Block, ...]:
        return tuple(self.model.layers)  # type: ignore[arg-type]

    @property
    def _head_weight(self) -> Tensor:
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight
