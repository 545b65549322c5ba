"""manifest.json of a DATA directory: its contents, its sources, and the digests that prove it complete."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from tttkit.data.account import LeftOut
from tttkit.errors import DataError, ShardError, UsageError
from tttkit.storage import files

SCHEMA_VERSION = 2
"""Version 2 added `num_files`, `left_out`, `cut_at` and `validation_in_train`; version 1 is still read."""
MANIFEST_NAME = "manifest.json"
TOKENIZER_NAME = "tokenizer.json"
MAX_MANIFEST_BYTES = 64 << 20
_CHECKSUM = "checksum"
"""Key of the SHA-256 over all other keys. Older data sets have none."""
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ShardEntry:
    """One shard file."""

    name: str
    num_tokens: int
    num_documents: int
    max_token: int
    sha256: str

    def __post_init__(self) -> None:
        """Raise ValueError for a name that could lead out of the directory."""
        if not files.is_safe_name(self.name):
            raise ValueError(f"unsafe shard name {self.name!r}")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class SplitEntry:
    """One split: its shards in order and its totals."""

    shards: list[ShardEntry]
    num_tokens: int
    """Token ids, including the end-of-text token of each document."""
    num_documents: int
    num_bytes: int
    """UTF-8 bytes of the documents' text."""
    num_words: int
    """Words of the documents' text, separated by white space."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Manifest:
    """The contents of manifest.json. The names of the fields are its keys."""

    schema_version: int
    tokenizer_sha256: str
    vocab_size: int
    """Number of token ids; every id is smaller."""
    eos_id: int
    special_in_text: Literal["encode", "split"] = "encode"
    """What became of a text that spells a special token: `encode` gave the id of the token, `split` ordinary ids."""
    tokenizer_notes: list[str] = field(default_factory=list)
    """What a user should know about how the tokenizer was used."""
    dtype: str
    """uint16 or uint32."""
    splits: dict[str, SplitEntry]
    num_mended: int = 0
    """Number of files or lines whose invalid UTF-8 was replaced or skipped, as `bad_utf8` says."""
    num_files: dict[str, int] = field(default_factory=dict)
    """Number of files and streams that were read, by format. Empty in data sets of version 0.1.0."""
    left_out: list[LeftOut] = field(default_factory=list)
    """Files and records of the sources that were left out, and why."""
    cut_at: int | None = None
    """If the sources are one document: the byte at which it was cut into the splits. None if documents are whole."""
    validation_in_train: float | None = None
    """Share of passages of the validation split that are in the train split too. None without a validation split."""
    fingerprint: str
    """SHA-256 over tokenizer, shards and `special_in_text`: equal data has an equal fingerprint."""
    request: dict[str, Any]
    """Sources, tokenizer and rules that the data was made from."""

    def __post_init__(self) -> None:
        """Raise ValueError for an end-of-text id outside the vocabulary."""
        if not 0 <= self.eos_id < self.vocab_size:
            raise ValueError(f"eos_id {self.eos_id} is not below vocab_size {self.vocab_size}")


def fingerprint(
    tokenizer_sha256: str, splits: dict[str, SplitEntry], special_in_text: Literal["encode", "split"] = "encode"
) -> str:
    """Return the SHA-256 over the digests of tokenizer and shards, split by split, and over any other `special_in_text`
    than `encode`, which older data sets do not name."""
    digest = hashlib.sha256(tokenizer_sha256.encode(errors="surrogatepass"))
    if special_in_text != "encode":
        digest.update(f"\n{special_in_text}".encode(errors="surrogatepass"))
    for name in sorted(splits):
        digest.update(f"\n{name}".encode(errors="surrogatepass"))
        for shard in splits[name].shards:
            digest.update(f"\n{shard.sha256}".encode(errors="surrogatepass"))
    return digest.hexdigest()


def load_manifest(path: str | Path) -> Manifest:
    """Read and check the manifest of a DATA directory.

    Raises UsageError if the path is not a directory, DataError if the manifest is missing (the preparation did not
    finish), damaged, or of a newer schema.
    """
    path = Path(path)
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise UsageError(f"expected a DATA directory, but {path} {what}", hint="make one with `tttkit data prepare`")
    file = path / MANIFEST_NAME
    for name in (MANIFEST_NAME, TOKENIZER_NAME):
        refuse_link(path / name)
    if not file.exists():
        raise DataError(
            f"{path} is not a complete data set (no {MANIFEST_NAME})", hint="run `tttkit data prepare` again"
        )
    raw = files.read_json(file, max_bytes=MAX_MANIFEST_BYTES)
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise DataError(
            f"{file} has schema version {version}, this tttkit reads up to {SCHEMA_VERSION}",
            hint="use the newer tttkit that made it, or prepare the data again",
        )
    checksum = raw.pop(_CHECKSUM, None) if isinstance(raw, dict) else None
    try:
        manifest = TypeAdapter(Manifest).validate_python(raw)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in detail["loc"])
        raise DataError(f"{file} is damaged: {where}: {detail['msg']}") from error
    if manifest.fingerprint != fingerprint(manifest.tokenizer_sha256, manifest.splits, manifest.special_in_text):
        raise DataError(f"{file} is damaged: its fingerprint does not match its digests")
    if checksum not in (None, _checksum(raw)):
        raise DataError(f"{file} is damaged: its checksum does not match")
    return manifest


def refuse_link(file: Path) -> None:
    """Raise ShardError if a file of a DATA directory is a link: it could lead anywhere and change unnoticed."""
    if file.is_symlink():
        raise ShardError(
            f"{file} is a symbolic link, but the files of a data set must lie in its directory",
            hint=f"copy them there; {file.parent} itself may be a link",
        )


def save_manifest(path: Path, manifest: Manifest) -> None:
    """Write the manifest of DATA directory `path`, which makes the data set complete."""
    values = files.json_safe(dataclasses.asdict(manifest))
    files.write_json(path / MANIFEST_NAME, {**values, _CHECKSUM: _checksum(values)})


def _checksum(values: Any) -> str:
    """Return the SHA-256 over the contents of the manifest, independent of white space."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
