"""The language model around a sequence layer: embedding, blocks, head. The architectures differ in one layer only.

Shapes: B batch, L length, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tttkit.models.head_loss import head_loss
from tttkit.models.layers import PreConvolution, RMSNorm, SequenceLayer, SwiGLU, widen
from tttkit.models.state import LayerState, ModelState

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig

BlockFunction = Callable[..., tuple[Tensor, LayerState]]
"""A block, or its compiled stand-in: called as `Block.forward`."""


class Block(nn.Module):
    """One layer: an optional convolution, the sequence layer, the feed-forward, each added to the stream."""

    def __init__(self, config: ModelConfig, sequence_layer: SequenceLayer) -> None:
        super().__init__()
        if config.pre_conv:
            self.conv = PreConvolution(config.hidden_size, config.conv_kernel, config.rms_norm_eps)
        self.seq_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.seq_modeling_block = sequence_layer
        self.ffn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size)
        self.config = config

    def initial_state(self, batch_size: int) -> LayerState:
        """State before any text."""
        state = self.seq_modeling_block.initial_state(batch_size)
        if self.config.pre_conv:
            past = (batch_size, self.config.conv_kernel - 1, self.config.hidden_size)
            state["past_conv"] = self.seq_norm.weight.new_zeros(past)
        return state

    def forward(
        self, x: Tensor, state: LayerState | None = None, position: int = 0, last: int | None = None
    ) -> tuple[Tensor, LayerState]:
        """Stream (B, L, D) to stream (B, L, D), and the state after it, empty where none was given.

        With `last` only so many positions come out, the last ones: (B, last, D).
        """
        after: LayerState = {}
        if self.config.pre_conv:
            mixed, past = self.conv(x, None if state is None else state["past_conv"])
            x = x + mixed
            if state is not None:
                after["past_conv"] = past
        read, rest = self.seq_modeling_block(self.seq_norm(x), state, position, last)
        x = (x if last is None else x[:, -last:]) + read
        return x + self.mlp(self.ffn_norm(x)), {**after, **rest}


class Backbone(nn.Module):
    """Embedding, blocks and final norm, under the official names."""

    def __init__(self, config: ModelConfig, sequence_layer: Callable[[ModelConfig], SequenceLayer]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, sequence_layer(config)) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class LanguageModel(nn.Module):
    """Next-token model: `model(input_ids)` gives logits. Parameter names are the official ones."""

    def __init__(self, config: ModelConfig, sequence_layer: Callable[[ModelConfig], SequenceLayer]) -> None:
        super().__init__()
        self.config = config
        self.model = Backbone(config, sequence_layer)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self._reset_parameters()

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits (B, L, V), float32, of the token after each position; text starts fresh in every row.

        `input_ids` is (B, L) int64 or int32. Raises TypeError for another dtype and ValueError for another number of
        dimensions, a length of zero or, on a CPU, ids outside the vocabulary.
        """
        return self.head(self.hidden(input_ids))

    @property
    def _head_weight(self) -> Tensor:
        return self.model.embed_tokens.weight if self.config.tie_word_embeddings else self.lm_head.weight

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.embed_tokens.weight.device

    def hidden(
        self, input_ids: Tensor, blocks: Sequence[BlockFunction] | None = None, last: int | None = None
    ) -> Tensor:
        """Final hidden states (B, L, D), ready for `head`; `blocks` are compiled stand-ins for the model's own.

        With `last` those of the last positions only, (B, last, D): what only the others need the last layer leaves out.
        """
        x = self._embed(input_ids)
        run: Sequence[BlockFunction] = list(self.model.layers) if blocks is None else blocks
        for number, block in enumerate(run, start=1):
            x, _ = block(x) if last is None or number < len(run) else block(x, last=last)
        normed: Tensor = self.model.norm(x)
        return normed

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, V), float32, of hidden states (…, D): apply it to the positions that are scored only."""
        return widen(F.linear(hidden, self._head_weight))

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy, a scalar, of the logits of hidden states (…, D) and their next tokens (…) int64.

        Equal to the cross-entropy of `head(hidden)`, in less time and memory (`head_loss.py`).
        """
        return head_loss(hidden, self._head_weight, targets)

    def initial_state(self, batch_size: int) -> ModelState:
        """State before any text, for B rows, on the model's device."""
        layers = (layer for layer in self.model.layers if isinstance(layer, Block))
        return ModelState(position=0, layers=tuple(layer.initial_state(batch_size) for layer in layers))

    def step(self, input_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Go on from `state`: logits (B, L, V) of a segment of any length, and the state after it.

        Differentiable in parameters and state. Equal to one pass over all the text, whatever the segments. From
        `state.detach()` the initial fast weights still receive their gradient. Errors as in `forward`.
        """
        hidden, after = self.advance(input_ids, state)
        return self.head(hidden), after

    def advance(
        self, input_ids: Tensor, state: ModelState, blocks: Sequence[BlockFunction] | None = None
    ) -> tuple[Tensor, ModelState]:
        """As `step`, but with the final hidden states (B, L, D) in place of the logits; `blocks` as in `hidden`."""
        x = self._embed(input_ids)
        self._check_state(state, x)
        layers = []
        run: Iterable[BlockFunction] = self.model.layers if blocks is None else blocks
        for block, before in zip(run, state.layers, strict=True):
            x, after = block(x, before, state.position)
            layers.append(after)
        return self.model.norm(x), ModelState(position=state.position + input_ids.shape[1], layers=tuple(layers))

    def _embed(self, input_ids: Tensor) -> Tensor:
        check_input_ids(input_ids, self.config.vocab_size)
        if input_ids.device != self.device:
            raise ValueError(f"input_ids must be on the model's device {self.device}, got {input_ids.device}")
        embedded: Tensor = self.model.embed_tokens(input_ids)
        return embedded

    def _check_state(self, state: ModelState, x: Tensor) -> None:
        """Refuse a state of another batch, model, device or precision; one layer stands for all."""
        if len(state.layers) != len(self.model.layers):
            raise ValueError(f"state must have {len(self.model.layers)} layers, got {len(state.layers)}")
        if state.batch_size != x.shape[0]:
            raise ValueError(f"state must have as many rows as input_ids, got {state.batch_size} and {x.shape[0]}")
        block = self.model.layers[0]
        assert isinstance(block, Block)
        expected, found = block.initial_state(0), state.layers[0]
        if found.keys() != expected.keys():
            raise ValueError(f"state must hold {', '.join(expected)} in each layer, got {', '.join(found)}")
        for name, tensor in found.items():
            wanted = expected[name]
            if tensor.device != wanted.device:
                raise ValueError(
                    f"state must be on the model's device {wanted.device}, but {name} is on {tensor.device}"
                )
            # zero is the length of a cache, which may be any
            if tensor.ndim != wanted.ndim or any(
                size not in (0, got) for size, got in zip(wanted.shape, tensor.shape, strict=True)
            ):
                shape = ", ".join(["B", *(str(size or "n") for size in wanted.shape[1:])])
                raise ValueError(f"state must hold {name} of shape ({shape}), got {tuple(tensor.shape)}")
            if (tensor.dtype == torch.float64) != (wanted.dtype == torch.float64) or not tensor.is_floating_point():
                raise ValueError(f"state must be {wanted.dtype} as the model is, but {name} is {tensor.dtype}")

    def _reset_parameters(self) -> None:
        """Official initial values, drawn from torch's generator in the order of the modules."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.initializer_range)
            if isinstance(module, SequenceLayer):
                module.reset_parameters()


def check_input_ids(input_ids: Tensor, vocab_size: int) -> None:
    """Refuse ids that no model can read. The range is checked on a CPU only: elsewhere it would wait for the device."""
    if input_ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"input_ids must be int64 or int32, got {input_ids.dtype}")
    if input_ids.ndim != 2:
        raise ValueError(f"input_ids must have shape (B, L), got {tuple(input_ids.shape)}")
    if 0 in input_ids.shape:
        raise ValueError(f"input_ids must hold at least one row and one token, got shape {tuple(input_ids.shape)}")
    if input_ids.device.type == "cpu":
        low, high = (int(bound) for bound in torch.aminmax(input_ids))
        if low < 0 or high >= vocab_size:
            raise ValueError(f"input_ids must be in 0 … {vocab_size - 1} (vocab_size {vocab_size}), got {low} … {high}")
