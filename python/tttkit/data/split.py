"""Open a split for reading: one stream of tokens across its shards."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tttkit._rust import TokenSplit
from tttkit.data.encode import narrow
from tttkit.data.manifest import TOKENIZER_NAME, Manifest, SplitEntry, load_manifest, refuse_link
from tttkit.errors import DataError, ShardError

Io = Literal["mmap", "pread"]


class Split:
    """Tokens and documents of one split. `open_split` opens it."""

    def __init__(self, path: Path, manifest: Manifest, entry: SplitEntry, *, io: Io) -> None:
        """Open the shards and compare each header with the manifest. Raises ShardError."""
        self._path = path
        self._manifest = manifest
        self._entry = entry
        paths = [path / shard.name for shard in entry.shards]
        for file in paths:
            refuse_link(file)
        missing = [file for file in paths if not file.exists()]
        if missing:
            raise ShardError(f"missing shard: {missing[0]}", hint="run `tttkit data prepare` again")
        self.rust = TokenSplit(paths, io == "mmap")
        for file, shard, header in zip(paths, entry.shards, self.rust.headers, strict=True):
            expected = (shard.num_tokens, shard.num_documents, manifest.vocab_size, shard.max_token)
            if header != expected:
                raise ShardError(
                    f"{file} is not the shard that the manifest lists: expected {expected}, got {header} "
                    "(tokens, documents, vocabulary size, largest id)"
                )

    @property
    def num_tokens(self) -> int:
        """Token ids in the split, including end-of-text tokens."""
        return self.rust.num_tokens

    @property
    def num_documents(self) -> int:
        """Documents in the split."""
        return self.rust.num_documents

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the documents' text."""
        return self._entry.num_bytes

    @property
    def num_words(self) -> int:
        """Words of the documents' text, separated by white space."""
        return self._entry.num_words

    @property
    def vocab_size(self) -> int:
        """Number of token ids; every id is smaller."""
        return self._manifest.vocab_size

    @property
    def eos_id(self) -> int:
        """The id that ends every document."""
        return self._manifest.eos_id

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the whole data set."""
        return self._manifest.fingerprint

    @property
    def tokenizer_sha256(self) -> str:
        """SHA-256 of the data set's tokenizer.json."""
        return self._manifest.tokenizer_sha256

    @property
    def tokenizer_path(self) -> Path:
        """The data set's tokenizer.json."""
        return self._path / TOKENIZER_NAME

    def tokens(self, start: int, stop: int) -> NDArray[np.uint16] | NDArray[np.uint32]:
        """Return ids `start … stop-1`, uint16 or uint32 `(stop - start,)`. Raises ValueError outside the stream."""
        if not 0 <= start <= stop <= self.num_tokens:
            raise ValueError(f"tokens {start}..{stop} are not in a split of {self.num_tokens}")
        return narrow(self.rust.tokens(start, stop), self.vocab_size)

    @functools.cached_property
    def document_ends(self) -> NDArray[np.uint64]:
        """Position after the end-of-text token of each document, uint64 `(num_documents,)`."""
        return self.rust.document_ends()

    def verify(self) -> None:
        """Check everything: checksums, every id, the index of documents. Raises ShardError for the first fault."""
        self.rust.verify([shard.sha256 for shard in self._entry.shards])


def open_split(path: str | Path, name: str, *, io: Io = "mmap") -> Split:
    """Open split `name` of a DATA directory.

    `io="mmap"` maps the shards into memory. If another process truncates a mapped shard, SIGBUS ends this process at
    the next read; no check at opening can prevent that. tttkit only replaces shards by rename, which leaves a mapped
    shard intact. `io="pread"` is for file systems on which others may truncate files: every read is a system call, and
    a short read is a ShardError.

    Raises UsageError if the path is not a directory, DataError for a damaged data set or an unknown split.
    """
    path = Path(path)
    manifest = load_manifest(path)
    if name not in manifest.splits:
        raise DataError(f"{path} has no split `{name}`", hint=f"it has {', '.join(manifest.splits) or 'none'}")
    return Split(path, manifest, manifest.splits[name], io=io)
