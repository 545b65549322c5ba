"""AdamW with weight decay on the parameters that the model's layers declare."""

from __future__ import annotations

import torch

from tttkit.config.run import OptimizerConfig
from tttkit.models import LanguageModel


def build_optimizer(model: LanguageModel, config: OptimizerConfig) -> torch.optim.AdamW:
    """Build AdamW with two groups, with and without weight decay; the caller sets the learning rate before every step.

    On a GPU the learning rate is a tensor, so that a CUDA graph of the step sees it change.
    """
    decays = {id(parameter) for parameter in model.decayed_parameters()}
    decayed = [parameter for parameter in model.parameters() if id(parameter) in decays]
    rest = [parameter for parameter in model.parameters() if id(parameter) not in decays]
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
