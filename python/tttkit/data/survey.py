"""Look at every file of the sources once, before anything is read: `survey`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable

from tttkit.data.reader import Reading
from tttkit.data.sources import Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class Survey:
    """Signature and size of sources, taken before they are read."""

    signature: str | None
    """Digest of the names, sizes and times of all files. None with a stream, which cannot be read twice.

    Data sets with equal signatures are made from the same sources.
    """
    total_bytes: int | None
    """Bytes of text, or None if only reading tells."""


def survey(sources: Iterable[Source], rules: Reading) -> Survey:
    """Look at every file of the sources once without reading it. Raises UsageError for a source that is missing."""
    digest, sizes, is_repeatable = hashlib.sha256(), [], True
    for source in sources:
        sizes.append(source.sign(digest.update, rules))
        is_repeatable = is_repeatable and source.stream is None
    return Survey(
        signature=digest.hexdigest() if is_repeatable else None,
        total_bytes=None if None in sizes else sum(filter(None, sizes)),
    )
