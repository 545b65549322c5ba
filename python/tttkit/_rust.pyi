import os
from collections.abc import Sequence
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Encoder",
    "Ingest",
    "Sampler",
    "TokenSplit",
    "__version__",
    "bootstrap_means",
    "chunk_statistics",
    "paired_bootstrap",
]

__version__: str

@final
class Encoder:
    def __new__(cls, tokenizer_json: str) -> Self: ...
    @property
    def json(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def is_byte_level_bpe(self) -> bool: ...
    @property
    def simd(self) -> str: ...
    def token_id(self, token: str) -> int | None: ...
    def encode(
        self, documents: Sequence[str], num_threads: int = 0
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]: ...

@final
class Ingest:
    def __new__(
        cls,
        encoder: Encoder,
        directory: str | os.PathLike[str],
        *,
        eos_id: int,
        shard_tokens: int,
        documents: str,
        validation_fraction: float,
        kept: Sequence[Sequence[tuple[str, str]]],
        num_threads: int,
    ) -> Self: ...
    def add_paths(self, paths: Sequence[str | os.PathLike[str]]) -> None: ...
    def add_documents(self, documents: Sequence[str]) -> None: ...
    def hold_out_all(self) -> None: ...
    def run(self, num_bytes: int) -> bool: ...
    def counts(self) -> list[tuple[int, int, int, int]]: ...
    def finished(self) -> list[list[tuple[str, int, int, int, str]]]: ...
    def finish(self) -> list[list[tuple[str, int, int, int, str]]]: ...

@final
class Sampler:
    def __new__(
        cls, split: TokenSplit, *, window: int, batch_size: int, seed: int, rank: int, world_size: int
    ) -> Self: ...
    def batch(self, step: int) -> NDArray[np.int64]: ...
    def fill(self, target: NDArray[np.int64], step: int) -> None: ...
    def fill_lanes(self, target: NDArray[np.int64], step: int) -> NDArray[np.bool_]: ...

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
    groups: NDArray[np.uint32] | None = None,
    *,
    chunk_size: int,
    chunk_stride: int,
    median: bool,
    num_resamples: int,
    seed: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]: ...
