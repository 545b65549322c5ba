"""Shards of tensors in files: every rank writes its own, and any number of ranks, or one process, reads them.

torch.distributed.checkpoint (DCP) decides which part of a tensor a rank writes and which parts of which files it reads.
The files are those of DCP's `HuggingFaceStorageWriter`: safetensors whose header says where in its tensor each part
begins. The writer of DCP is not used, because it goes past `storage/`; neither is the driver `dcp.save`, because it
sends pickled plans between ranks, and one rank that cannot write leaves the others waiting.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tttkit.errors import DataError
from tttkit.storage import files
from tttkit.storage.tensor_file import write_tensors


def write_shards(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write this rank's shards of DTensors into a directory that is being committed. Raises DiskFullError, OSError."""
    # imported late: a run of one process needs none of it
    from torch.distributed.checkpoint.default_planner import DefaultSavePlanner

    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(tensors, None, is_coordinator=False)
    shards, begins = {}, {}
    for item in planner.create_local_plan().items:
        assert item.tensor_data is not None
        if item.tensor_data.chunk.sizes.numel():
            shard = planner.resolve_data(item)
            assert isinstance(shard, Tensor)
            shards[item.index.fqn] = shard
            begins[item.index.fqn] = {"saved_offsets": list(item.tensor_data.chunk.offsets)}
    write_tensors(path, shards, {"DCP_SHARDING_INFO": json.dumps(begins), "DCP_VERSION": "1.0", "format": "pt"})


def shapes_in(directory: Path) -> dict[str, torch.Size]:
    """Return the shapes of all tensors in the files of a directory. Raises DataError if a part of one is missing."""
    with _reading(directory) as name:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

        tensors: dict[str, Any] = HuggingFaceStorageReader(name).read_metadata().state_dict_metadata
        sizes = {
            key: (tensor.size, sum(part.sizes.numel() for part in tensor.chunks)) for key, tensor in tensors.items()
        }
    for key, (size, num_elements) in sizes.items():
        if num_elements != size.numel():
            raise DataError(f"{directory} has {num_elements} of the {size.numel()} elements of {key}")
    return {key: size for key, (size, _) in sizes.items()}


def read_shards(directory: Path, targets: Mapping[str, Tensor]) -> None:
    """Copy tensors from the files of a directory into `targets`, whole or, into a DTensor, this rank's shard.

    No other rank needs to call it. Raises DataError.
    """
    with _reading(directory) as name, warnings.catch_warnings(), torch.no_grad():
        from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
        from torch.distributed.checkpoint.state_dict_loader import load

        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # that is what no_dist asks for
        planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        load(dict(targets), storage_reader=HuggingFaceStorageReader(name), planner=planner, no_dist=True)


@contextmanager
def _reading(directory: Path) -> Iterator[str]:
    """Yield a name of the directory that is UTF-8; turn the errors of DCP into a DataError."""
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        with files.utf8_name(directory) as name:
            yield name
    except CheckpointException as error:
        first = next(iter(error.failures.values()))[0]
        raise DataError(f"cannot read the shards in {directory}: {first}") from error
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise DataError(f"cannot read the shards in {directory}: {error!r}") from error
