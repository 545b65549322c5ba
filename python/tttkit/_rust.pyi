import os
from collections.abc import Sequence
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encoder", "Packer", "TokenSplit", "__version__", "bootstrap_means", "chunk_statistics", "paired_bootstrap"]

__version__: str

@final
class Encoder:
    def __new__(cls, tokenizer_json: str, num_threads: int = 0) -> Self: ...
    @property
    def is_byte_level_bpe(self) -> bool: ...
    def encode(self, documents: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]: ...

@final
class Packer:
    def __new__(
        cls, directory: str | os.PathLike[str], split: str, vocab_size: int, eos_id: int, shard_tokens: int
    ) -> Self: ...
    def add(self, encoder: Encoder, documents: Sequence[str]) -> int: ...
    def finish(self) -> list[tuple[str, int, int, int, str]]: ...

@final
class TokenSplit:
    def __new__(cls, paths: Sequence[str | os.PathLike[str]], mapped: bool = True) -> Self: ...
    @property
    def headers(self) -> list[tuple[int, int, int, int]]: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def num_documents(self) -> int: ...
    def tokens(self, start: int, stop: int) -> NDArray[np.uint32]: ...
    def document_ends(self) -> NDArray[np.uint64]: ...
    def batch(
        self, step: int, *, window: int, batch_size: int, seed: int, rank: int, world_size: int
    ) -> NDArray[np.int64]: ...
    def lane_batch(
        self, step: int, *, window: int, batch_size: int, seed: int, rank: int, world_size: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]: ...
    def verify(self, digests: Sequence[str]) -> None: ...

def chunk_statistics(
    nll: NDArray[np.float32], *, window: int, chunk_size: int, chunk_stride: int, median: bool, cut_at_window: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]: ...
def bootstrap_means(
    values: NDArray[np.float64], groups: NDArray[np.uint32] | None = None, *, num_resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
def paired_bootstrap(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    *,
    chunk_size: int,
    chunk_stride: int,
    median: bool,
    num_resamples: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
