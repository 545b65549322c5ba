"""The cache of a transformers model, whatever class it has: its size, and its part in a pass with gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Saved = tuple[Tensor, int | None]
"""A tensor that a backward pass needs, and its version when it was saved; None for a copy."""


def cache_bytes(cache: Any) -> int:
    """Return the bytes of all tensors inside a cache; tensors that share memory count once."""
    storages: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    _map(cache, count, set())
    return sum(storages.values())


def detach_cache(cache: Any) -> Any:
    """Return a cache whose tensors have no graph. Objects, lists and dictionaries are changed in place."""
    return _map(cache, Tensor.detach, set())


@contextmanager
def keep_cached_values(cache: Any) -> Iterator[None]:
    """Let a backward pass use values of a cache that the forward pass overwrites.

    Tensors that share memory with the cache are copied when the forward pass saves them for the backward pass. Any
    other tensor that is overwritten is a RuntimeError in the backward pass, as it is without this.
    """
    memory: set[int] = set()

    def remember(tensor: Tensor) -> Tensor:
        memory.add(tensor.untyped_storage().data_ptr())
        return tensor

    _map(cache, remember, set())

    def pack(tensor: Tensor) -> Saved:
        if tensor.untyped_storage().data_ptr() in memory:
            return tensor.clone(), None
        return tensor.detach(), tensor._version  # noqa: SLF001 - autograd itself compares it

    def unpack(saved: Saved) -> Tensor:
        tensor, version = saved
        if version is not None and tensor._version != version:  # noqa: SLF001
            raise RuntimeError("a tensor that the gradient needs was changed in place")
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield


def _map(value: Any, function: Callable[[Tensor], Tensor], seen: set[int]) -> Any:
    """Return `value` with `function(tensor)` in place of every tensor inside it."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(_map(each, function, seen) for each in value)
    if id(value) in seen or isinstance(value, nn.Module | type):
        return value
    seen.add(id(value))
    if isinstance(value, list):
        value[:] = [_map(each, function, seen) for each in value]
    elif isinstance(value, dict):
        for key in list(value):
            value[key] = _map(value[key], function, seen)
    elif hasattr(value, "__dict__"):
        for name, each in list(vars(value).items()):
            after = _map(each, function, seen)
            if after is not each:
                setattr(value, name, after)
    return value
