"""Write safetensors files through `files`, with one tensor in memory at a time.

The writer of the safetensors library either holds the whole file in memory or writes it itself: without a sync, with
mode 0600, and with an error that has no errno when the disk is full. The format is eight bytes with the length of the
header, the header in JSON, then the data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch

from tttkit.storage import files

_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64",
    torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_LARGEST_FIRST = {dtype: -dtype.itemsize for dtype in _DTYPES}


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a new file into a directory that is being committed. Raises DiskFullError, OSError.

    `metadata` are texts for the header of the file.
    """
    # Sorting by the size of the dtype keeps the data aligned.
    names = sorted(tensors, key=lambda name: (_LARGEST_FIRST[tensors[name].dtype], name))
    files.write_new(path, _pieces([(name, tensors[name]) for name in names], metadata))


def _pieces(tensors: list[tuple[str, torch.Tensor]], metadata: dict[str, str] | None) -> Iterator[bytes | memoryview]:
    header: dict[str, object] = {} if metadata is None else {"__metadata__": metadata}
    offset = 0
    for name, tensor in tensors:
        end = offset + tensor.numel() * tensor.dtype.itemsize
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for _, tensor in tensors:
        if tensor.numel():
            yield memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
