"""How much goes through a model at once: what memory holds, but no more than is fast."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tttkit.config.model import ModelConfig
from tttkit.run.memory_events import own_cgroup

_FASTEST_TOKENS = {"cpu": 16_384, "cuda": 131_072}
"""More tokens at once are no faster."""
_MOST_LOGITS = 1 << 26
"""Most logits at once: 256 MB in float32, and as much again for their softmax."""
_SHARE = 0.25
"""Of the memory that is free now: others may want some, and the figures below are estimates."""
_FLOAT = 4


def batch_tokens(config: ModelConfig, device: torch.device) -> int:
    """Tokens that one forward pass without gradients may hold: a power of two, at least one.

    In powers of two and with a bound, so that the same machine nearly always cuts the same batches: a product of other
    rows may round differently in its last bit.
    """
    fitting = int(_SHARE * available_bytes(device)) // bytes_per_token(config)
    return min(_FASTEST_TOKENS[device.type], 1 << max(0, fitting.bit_length() - 1))


def batch_logits(config: ModelConfig, device: torch.device) -> int:
    """Positions whose logits may be held at once, at least one."""
    fitting = int(_SHARE * available_bytes(device)) // (3 * _FLOAT)
    return max(1, min(_MOST_LOGITS, fitting) // config.vocab_size)


def bytes_per_token(config: ModelConfig) -> int:
    """Memory that the widest layer takes at its peak, measured at 125M: 30 D floats with I = 4 D, MLP states 70 D."""
    mixing = 58 if config.ttt_layer_type == "mlp" and config.architecture == "ttt" else 22
    return _FLOAT * (mixing * config.hidden_size + 3 * config.intermediate_size)


def available_bytes(device: torch.device) -> int:
    """Memory that is free on a device; on a CPU what the system and the control group leave, whichever is less."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(_system_bytes(Path("/proc/meminfo")), _group_bytes(own_cgroup()))


def _system_bytes(file: Path) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:  # another system than Linux: nothing is known
        return sys.maxsize
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), sys.maxsize)


def _group_bytes(group: Path) -> int:
    """What the limit leaves; cached files that the kernel would give up do not count as used."""
    try:
        limit, used, stat = ((group / f"memory.{name}").read_text() for name in ("max", "current", "stat"))
    except OSError:  # no control group, or one of the first version
        return sys.maxsize
    if limit.strip() == "max":
        return sys.maxsize
    cached = next((int(line.split()[1]) for line in stat.splitlines() if line.startswith("inactive_file ")), 0)
    return max(0, int(limit) - int(used) + cached)
