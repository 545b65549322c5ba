"""Find non-finite values in a safetensors file without torch, from the bits of each float."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tttkit.errors import DataError

_MAX_HEADER_BYTES = 64 << 20
_EXPONENTS: dict[str, tuple[type[np.unsignedinteger], int]] = {
    "F64": (np.uint64, 0x7FF0_0000_0000_0000),
    "F32": (np.uint32, 0x7F80_0000),
    "BF16": (np.uint16, 0x7F80),
    "F16": (np.uint16, 0x7C00),
}
"""By dtype: the integer of the same width, and its exponent bits. All of them set means infinity or NaN."""


def nonfinite_tensors(path: Path) -> list[str]:
    """Return the names of tensors that hold an infinity or NaN. Raises DataError unless it is a safetensors file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _MAX_HEADER_BYTES:
                raise DataError(f"{path} has a header of {length} bytes")
            header = json.loads(file.read(length))
        data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + length)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return [name for name, entry in entries.items() if _has_nonfinite(data, entry)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a valid safetensors file: {error}") from error


def _has_nonfinite(data: NDArray[np.uint8], entry: dict[str, Any]) -> bool:
    kind = _EXPONENTS.get(str(entry["dtype"]))
    if kind is None:
        return False
    start, stop = entry["data_offsets"]
    dtype, mask = kind
    bits = data[start:stop].view(dtype)
    return bool(((bits & dtype(mask)) == dtype(mask)).any())
