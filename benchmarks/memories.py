"""Compare layers with the same layers of transformers (its PyTorch code): forward and backward at 125M sizes, on a CPU.

    python benchmarks/memories.py [THREADS] [ROUNDS]

Every round runs each layer once, in turn; the ratio is the median over the rounds of peer / ours. The last rows compare
our blocks with the block of the Transformer of the same size, and options of the inner loop of ttt-125m with none. With
one thread the seconds are those of the processor, which other programs change little.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
import warnings

import torch

from tttkit.config.model import ModelConfig
from tttkit.models.block import Block
from tttkit.models.registry import SEQUENCE_LAYERS

SHAPES = ((8, 64), (2, 1024))
MEMORIES = ("gated-deltanet", "deltanet", "mamba2", "lact", "titans", "rwkv7")


INNER_OPTIONS = (
    {"inner_decay": "head"}, {"inner_decay": "token"}, {"inner_momentum": 0.5}, {"inner_rescale": True},
    {"inner_lr_decay": 0.5}, {"mini_batch_size": 64}, {"mini_batch_size": 64, "parallel_window": True},
)  # fmt: skip


def block_of(name, **options):
    config = dataclasses.replace(ModelConfig.preset(f"{name}-125m"), **options)
    block = Block(config, SEQUENCE_LAYERS[config.architecture](config))
    with torch.no_grad():
        for parameter in block.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02)
    block.seq_modeling_block.reset_parameters()
    return block


def qwen3_next():
    """The Gated DeltaNet layer of Qwen3-Next with the sizes of gated-deltanet-125m."""
    from transformers.models.qwen3_next.configuration_qwen3_next import Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

    config = Qwen3NextConfig(
        hidden_size=768, linear_num_key_heads=6, linear_num_value_heads=6, linear_key_head_dim=96,
        linear_value_head_dim=192, linear_conv_kernel_dim=4, num_hidden_layers=1,
    )  # fmt: skip
    return Qwen3NextGatedDeltaNet(config, 0)


def mamba2():
    """The Mamba-2 layer with the sizes of mamba2-125m."""
    from transformers.models.mamba2.configuration_mamba2 import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(
        hidden_size=768, num_heads=24, head_dim=64, n_groups=1, state_size=128, conv_kernel=4, num_hidden_layers=1
    )
    return Mamba2Mixer(config, 0)


def once(module, x):
    """Return the seconds of a forward and backward pass."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    module.zero_grad(set_to_none=True)
    start = clock()
    output = module(x)
    (output[0] if isinstance(output, tuple) else output).square().mean().backward()
    return clock() - start


def compare(title, ours, peer, x, rounds):
    for module in (ours, peer):
        once(module, x)
    seconds = [(once(ours, x), once(peer, x)) for _ in range(rounds)]
    ratio = statistics.median(theirs / own for own, theirs in seconds)
    own, theirs = (1000 * statistics.median(part) for part in zip(*seconds, strict=True))
    shape = f"{x.shape[0]}x{x.shape[1]}"
    print(f"{title:58} {shape:>7} {own:9.1f} ms {theirs:9.1f} ms {ratio:6.2f}", flush=True)


def main(num_threads, rounds):
    warnings.simplefilter("ignore")
    torch.set_num_threads(num_threads)
    torch.manual_seed(0)
    print(f"{'ours / peer':58} {'shape':>7} {'ours':>12} {'peer':>12} {'peer / ours':>6}")
    for batch, length in SHAPES:
        x = torch.randn(batch, length, 768, requires_grad=True)
        for name, peer in (("gated-deltanet", qwen3_next()), ("mamba2", mamba2())):
            ours = block_of(name).seq_modeling_block
            compare(f"layer {name} / transformers", ours, peer, x, rounds)
    attention = block_of("transformer")
    for batch, length in SHAPES:
        x = torch.randn(batch, length, 768, requires_grad=True)
        for name in MEMORIES:
            compare(f"block {name} / transformer", block_of(name), attention, x, rounds)
    plain = block_of("ttt")
    for batch, length in SHAPES:
        x = torch.randn(batch, length, 768, requires_grad=True)
        for options in INNER_OPTIONS:
            named = ", ".join(f"{key}={value}" for key, value in options.items())
            compare(f"block ttt, {named} / none", block_of("ttt", **options), plain, x, rounds)


if __name__ == "__main__":
    main(*([int(argument) for argument in sys.argv[1:]] or [2, 5]))
