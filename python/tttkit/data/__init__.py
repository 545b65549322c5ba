"""Text to token shards to windows. Names are loaded on first use, so that importing this package is cheap."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tttkit.data.contiguous_sampler import ContiguousSampler as ContiguousSampler
    from tttkit.data.encode import encode_documents as encode_documents
    from tttkit.data.manifest import Manifest as Manifest
    from tttkit.data.manifest import load_manifest as load_manifest
    from tttkit.data.prepare import prepare_dataset as prepare_dataset
    from tttkit.data.split import Split as Split
    from tttkit.data.split import open_split as open_split
    from tttkit.data.window_sampler import WindowSampler as WindowSampler

_HOMES = {
    "ContiguousSampler": "tttkit.data.contiguous_sampler",
    "Manifest": "tttkit.data.manifest",
    "Split": "tttkit.data.split",
    "WindowSampler": "tttkit.data.window_sampler",
    "encode_documents": "tttkit.data.encode",
    "load_manifest": "tttkit.data.manifest",
    "open_split": "tttkit.data.split",
    "prepare_dataset": "tttkit.data.prepare",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
