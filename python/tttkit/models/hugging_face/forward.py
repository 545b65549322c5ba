"""Hidden states, logits and cache of a transformers model, without logits at positions that are not scored.

Shapes: N windows, L tokens, P positions, D width, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

CACHE_NAMES = ("cache", "past_key_values", "cache_params", "state")
"""Names of the argument that continues a text. Forward passes ignore an unknown name in silence."""


_EXACT = 1e-3
"""Largest difference in nats that rounding of float32 may cause."""
_LOW_PRECISION = 0.1
"""Largest mean difference in nats that rounding of bfloat16 or float16 may cause."""


class _BackboneDone(Exception):  # noqa: N818 - it ends a forward pass early, which is no error
    """The backbone has returned, so the head need not run."""


def _backbone(module: nn.Module) -> nn.Module:
    """Return the part whose output goes to the head: some models call the decoder inside their base model."""
    base: nn.Module = module.base_model  # type: ignore[assignment]
    decoder = getattr(base, "decoder", None)
    return decoder if isinstance(decoder, nn.Module) else base


class Forward:
    """Runs the two halves of a causal language model of transformers: the backbone, and everything after it.

    The second half may cap or scale logits, so it is the model's own `forward`, on hidden states that are given.
    """

    def __init__(self, module: nn.Module) -> None:
        """`module` is a causal language model of transformers with a backbone `module.base_model`."""
        self._module = module
        self._backbone = _backbone(module)
        self._accepted = set(inspect.signature(module.forward).parameters)
        self._output_class: Any = None
        self.cache_name = next((name for name in CACHE_NAMES if name in self._accepted), None)
        """Name of the argument that continues a text; None if the model has none."""
        self.has_split_head = self._backbone is not module
        """Whether the backbone is a module of its own."""

    def hidden_states(self, ids: Tensor, cache: Any = None, *, keep_cache: bool = False) -> tuple[Tensor, Any]:
        """Return the last hidden states (N, L, D) of ids (N, L), and the cache after them if it is kept and exists.

        `cache` is what an earlier call returned; most models change it in place.
        """
        arguments: dict[str, Any] = {"use_cache": keep_cache}
        if cache is not None and self.cache_name is not None:
            arguments[self.cache_name] = cache
        outputs: Any = None

        def stop(_module: nn.Module, _inputs: Any, result: Any) -> None:
            nonlocal outputs
            outputs = result
            raise _BackboneDone

        hook = self._backbone.register_forward_hook(stop)
        try:
            self._module(**self._known(input_ids=ids, **arguments))
        except _BackboneDone:
            pass
        finally:
            hook.remove()
        self._output_class = type(outputs)
        kept = getattr(outputs, self.cache_name, None) if keep_cache and self.cache_name else None
        return outputs[0], kept

    def logits(self, hidden_states: Tensor) -> Tensor:
        """Return the logits (P, V) float32 of hidden states (P, D)."""
        ids = torch.zeros(1, len(hidden_states), dtype=torch.int64, device=hidden_states.device)
        with self._backbone_returns(hidden_states[None]):
            result = self._module(**self._known(input_ids=ids, use_cache=False))
        logits: Tensor = result[0] if isinstance(result, tuple) else result.logits
        return logits[0].float()

    def whole_logits(self, ids: Tensor, num_last: int = 0) -> Tensor:
        """Return the logits (N, L, V) float32 of ids (N, L) by one ordinary forward pass.

        `num_last` asks for the last positions only; a model that cannot leave out the others gives all.
        """
        keep = {"logits_to_keep": num_last} if num_last else {}
        result = self._module(**self._known(input_ids=ids, use_cache=False, **keep))
        logits: Tensor = result[0] if isinstance(result, tuple) else result.logits
        return logits.float()

    def reads_position(self, position: int) -> bool | None:
        """Return whether the model reads a token at a position; None if it takes no positions."""
        if "position_ids" not in self._accepted:
            return None
        ids = torch.zeros(1, 1, dtype=torch.int64, device=next(self._module.parameters()).device)
        try:
            self._module(**self._known(input_ids=ids, position_ids=ids + position, use_cache=False))
        # a table that ends; an index error of torch is a RuntimeError or an IndexError
        except (IndexError, RuntimeError):
            return False
        return True

    def is_rounding(self, difference: Tensor) -> bool:
        """Return whether rounding in the model's floating-point type explains differences |a - b| in nats."""
        dtype = next(each.dtype for each in self._module.parameters() if each.is_floating_point())
        if dtype in (torch.bfloat16, torch.float16):
            return bool(difference.mean() <= _LOW_PRECISION)
        return bool(difference.max() <= _EXACT)

    def _known(self, **arguments: Any) -> Mapping[str, Any]:
        return {name: value for name, value in arguments.items() if name in self._accepted}

    @contextmanager
    def _backbone_returns(self, hidden_states: Tensor) -> Iterator[None]:
        """Replace the forward pass of the backbone by one that returns these hidden states (1, P, D)."""
        if self._output_class is None:
            raise RuntimeError("hidden_states must be called before logits")
        output = self._output_class(last_hidden_state=hidden_states)
        previous = self._backbone.__dict__.get("forward")
        self._backbone.forward = lambda *_, **__: output
        try:
            yield
        finally:
            # the method of the class, or what another package put in its place
            if previous is None:
                del self._backbone.forward
            else:
                self._backbone.forward = previous
