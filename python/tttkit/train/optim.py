"""AdamW with decay on projection matrices only."""

from __future__ import annotations

import torch
from torch import nn

from tttkit.config.run import OptimizerConfig

_DECAYED = tuple(f".{name}_proj.weight" for name in ("q", "k", "v", "o", "g", "gate", "up", "down"))


def is_decayed(name: str) -> bool:
    """Whether a parameter of this name decays: projections do; embeddings, norms, biases, W1, … do not."""
    return name.endswith(_DECAYED)


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over two groups, decayed and not; the learning rate is set anew before every step.

    On a GPU that is a tensor, so that a CUDA graph of the step sees it change.
    """
    decayed = [parameter for name, parameter in model.named_parameters() if is_decayed(name)]
    rest = [parameter for name, parameter in model.named_parameters() if not is_decayed(name)]
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=torch.tensor(config.learning_rate, device=device) if on_gpu else config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
        capturable=on_gpu,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value
