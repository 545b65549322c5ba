"""Choose how many tokens and logits an evaluation holds at once, by the free memory and by what is fastest."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tttkit.errors import UsageError
from tttkit.models.scoring import ScoringModel
from tttkit.run.cgroups import groups

_FASTEST_TOKENS = {"cpu": 16_384, "cuda": 131_072}
"""Number of tokens above which a larger batch is no faster."""
_MOST_LOGITS = 1 << 26
"""Maximum number of logits at once: 256 MB in float32; a GPU needs as much again for their softmax."""
_SHARE = 0.25
"""Share of the free memory to use: other processes may need some, and the sizes are estimates."""
_FLOAT = 4
_GROUP_FILES = (
    ("max", "current", "inactive_file"),
    ("limit_in_bytes", "usage_in_bytes", "total_inactive_file"),
)
"""Names in a control group of version 2 and of version 1: limit, bytes in use, and cached files in `stat`."""


def batch_tokens(bytes_per_token: int, device: torch.device) -> int:
    """Return how many tokens one forward pass without gradients may hold: a power of two, at least one.

    `bytes_per_token` comes from the model (`ScoringModel`). The number is a bounded power of two, so that the same
    machine nearly always forms the same batches: another batch size may change the last bit of a matrix product.
    """
    fitting = int(_SHARE * available_bytes(device)) // bytes_per_token
    return min(_FASTEST_TOKENS[device.type], 1 << max(0, fitting.bit_length() - 1))


def fitting_segment(model: ScoringModel, length: int) -> int | None:
    """Return the tokens of a segment in which a text of `length` tokens is read; None for one pass.

    A text is read in segments only if one pass does not fit in the memory that an evaluation may use. Raises UsageError
    if it does not fit in the memory of the device and the model cannot be read in segments.
    """
    fitting = batch_tokens(model.bytes_per_token(), model.device)
    if length <= fitting:
        return None
    if model.can_carry:
        return fitting
    needed = length * model.bytes_per_token()
    if needed > available_bytes(model.device):
        raise UsageError(
            f"`full` over {length} tokens needs about {needed / 1e9:.1f} GB in one pass, and the {model.name} model "
            "gives other numbers when it reads a text in segments",
            hint="shorten the sequences with --max-length",
        )
    return None


def head_positions(vocab_size: int, device: torch.device) -> int:
    """Return the number of positions whose logits may exist at once, at least one."""
    fitting = int(_SHARE * available_bytes(device)) // (3 * _FLOAT)
    return max(1, min(_MOST_LOGITS, fitting) // vocab_size)


def available_bytes(device: torch.device) -> int:
    """Return the free memory of a device; on a CPU the smaller of what the system and the control group have left."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(_system_bytes(Path("/proc/meminfo")), *map(_group_bytes, groups("memory")))


def _system_bytes(file: Path) -> int:
    try:
        lines = file.read_text().splitlines()
    # only Linux has the file: elsewhere nothing is known
    except OSError:
        return sys.maxsize
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), sys.maxsize)


def _group_bytes(group: Path) -> int:
    """Return the bytes that a control group may still use; cached files that the kernel would drop count as free."""
    for limit_name, used_name, cached_name in _GROUP_FILES:
        try:
            limit, used, stat = ((group / f"memory.{name}").read_text() for name in (limit_name, used_name, "stat"))
            lines = [line.split() for line in stat.splitlines()]
            cached = next((int(line[1]) for line in lines if line[0] == cached_name), 0)
            return max(0, int(limit) - int(used) + cached)
        # the files do not exist, or they hold `max` or an unknown format
        except (OSError, ValueError, IndexError):
            continue
    return sys.maxsize
