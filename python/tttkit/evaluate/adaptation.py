"""The weights of a model that learn in the context `dynamic`, their steps, and their way back to the start.

Sources: Krause et al. 2018, Dynamic Evaluation of Neural Sequence Models; Krause et al. 2019, Dynamic Evaluation of
Transformer Language Models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tttkit.config.dynamic import DynamicConfig
from tttkit.errors import UsageError
from tttkit.models.layers import upcast
from tttkit.models.scoring import ScoringModel

_LAST_MLP = re.compile(r"mlp:last:([1-9]\d*)")
_BLOCK = re.compile(r"\.(\d+)\.(.+)")
"""The number of a block in the name of a parameter, and the name inside the block."""
_MLP = re.compile(
    r"(^|\.)(mlp|mlp_block|feed_?forward|ffn|ff|fc_?[12]|fc_(in|out)|channel_mix(ing)?|block_sparse_moe|moe)\."
)
_DAMPING = 0.1
"""The rms rule adds this share of the average RMS to each RMS, so that a rare weight makes no huge step."""


def select_parameters(module: nn.Module, choice: str) -> dict[str, nn.Parameter]:
    """Return the parameters of a model that `choice` names (`DynamicConfig.parameters`), by name.

    Raises UsageError if there are none.
    """
    known = {name: each for name, each in module.named_parameters() if each.is_floating_point()}
    if choice == "all":
        names = set(known)
    elif choice == "norms":
        parts = [name for name, part in module.named_modules() if "norm" in type(part).__name__.lower()]
        names = {name for name in known if name.rpartition(".")[0] in parts or "norm" in name.rpartition(".")[2]}
    elif found := _LAST_MLP.fullmatch(choice):
        names = _last_mlps(known, int(found[1]))
    else:
        names = {name for name in known if re.search(choice, name)}
    if not names:
        raise UsageError(
            f"no weight of the model is among `{choice}`",
            hint=f"known words: all, norms, mlp:last:3; the names of weights look like {next(iter(known), '')}",
        )
    return {name: parameter for name, parameter in known.items() if name in names}


def _last_mlps(names: Mapping[str, nn.Parameter], count: int) -> set[str]:
    """Return the names of the MLP's parameters in the last `count` blocks that have an MLP."""
    blocks: dict[int, set[str]] = {}
    for name in names:
        place = _BLOCK.search(name)
        if place is not None and _MLP.search(place[2]):
            blocks.setdefault(int(place[1]), set()).add(name)
    return set().union(*(blocks[index] for index in sorted(blocks)[-count:]))


class Adaptation:
    """The selected weights of one model while they learn. Steps are computed in float32, or float64 if they are."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], config: DynamicConfig, rms: Mapping[str, Tensor] | None
    ) -> None:
        """`rms` is the RMS of each weight's gradient by name, which the rule `rms` needs."""
        self._config = config
        self._parameters = list(parameters.values())
        self._start = [parameter.detach().clone() for parameter in self._parameters]
        self._values = [upcast(start).clone() for start in self._start]
        self._divisors: Sequence[Tensor | float] = [1.0] * len(self._start)
        self._pulls: Sequence[Tensor | float] = [config.decay] * len(self._start)
        if config.optimizer == "rms":
            if rms is None:
                raise UsageError("the rule `rms` of `dynamic` needs the RMS of the gradients on the training split")
            self._scale([rms[name] for name in parameters])

    def _scale(self, rms: list[Tensor]) -> None:
        """Set the divisors of the gradients, and pulls in proportion to each RMS, at most 1."""
        average = sum(float(each.sum(dtype=torch.float64)) for each in rms) / sum(each.numel() for each in rms)
        if average == 0.0:
            raise UsageError("the gradients of the weights that `dynamic` adapts are all zero")
        self._divisors = [each + _DAMPING * average for each in rms]
        self._pulls = [(self._config.decay / average * each).clamp(max=1.0) for each in rms]

    def step(self, loss: Tensor) -> None:
        """Take one step on a loss in nats per token, a scalar. Raises UsageError if it depends on no weight."""
        if not loss.requires_grad:
            raise UsageError(
                f"the loss does not depend on the weights `{self._config.parameters}`", hint="choose other parameters"
            )
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            for parameter, value, start, gradient, divisor, pull in zip(
                self._parameters, self._values, self._start, gradients, self._divisors, self._pulls, strict=True
            ):
                towards_start = pull * (upcast(start) - value)
                value.sub_(self._config.learning_rate * upcast(gradient) / divisor).add_(towards_start)
                parameter.copy_(value)

    def restore(self) -> None:
        """Put the weights back to their start, bit for bit."""
        with torch.no_grad():
            for parameter, value, start in zip(self._parameters, self._values, self._start, strict=True):
                parameter.copy_(start)
                value.copy_(start)


@contextmanager
def adapting(model: ScoringModel, config: DynamicConfig, rms: Mapping[str, Tensor] | None) -> Iterator[Adaptation]:
    """Let the selected weights of a model learn; at the end they are back at their start, whatever happened."""
    with gradients_of(model, config.parameters) as parameters:
        adaptation = Adaptation(parameters, config, rms)
        try:
            yield adaptation
        finally:
            adaptation.restore()


@contextmanager
def gradients_of(model: ScoringModel, choice: str) -> Iterator[dict[str, nn.Parameter]]:
    """Yield the parameters that `choice` names. Until the end, only they require gradients."""
    module = model.module
    parameters = select_parameters(module, choice)
    before = [(each, each.requires_grad) for each in module.parameters()]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            for each, _ in before:
                each.requires_grad_(False)
            for each in parameters.values():
                each.requires_grad_(True)
            yield parameters
    finally:
        for each, required in before:
            each.requires_grad_(required)
