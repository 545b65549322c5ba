"""What the tasks of a preparation do: count the documents of a run of files, encode a run to a piece, write a shard.

A piece is a committed directory: the tokens of each split as one long shard, and `piece.json`. It has its name from its
run, so a task that is repeated, or whose piece a killed command has left, uses the piece that is there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from tttkit._rust import Encoder, Ingest, TokenSplit
from tttkit.config.limits import MOST_TOKENS
from tttkit.data.account import LeftOut
from tttkit.data.feeding import Feeding
from tttkit.data.ingest import Row
from tttkit.data.manifest import TOKENIZER_NAME
from tttkit.data.reader import Reader, Reading
from tttkit.data.runs import Run
from tttkit.data.text import BadUtf8, Utf8Decoder
from tttkit.errors import DataError
from tttkit.storage import commits, files

SPLITS = ("train", "validation")
_PIECE_NAME = "piece.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """What all tasks of a preparation need."""

    current: Path
    """The directory in which the command was called; relative names of files are meant there."""
    out: Path
    pieces: Path
    rules: Reading
    bad_utf8: BadUtf8
    split_special: bool
    eos_id: int
    validation_fraction: float
    threads: int

    def reader(self) -> Reader:
        """Return a reader that has counted nothing."""
        return Reader(rules=self.rules, decoder=Utf8Decoder(bad_utf8=self.bad_utf8))

    def ingest(self, folder: Path, *, first_document: int = 0, count_only: bool = False) -> Ingest:
        """Return an engine that writes one shard of each split to `folder`."""
        tokenizer = (self.out / TOKENIZER_NAME).read_text(encoding="utf-8")
        return Ingest(
            Encoder(tokenizer, split_special=self.split_special),
            folder,
            eos_id=self.eos_id,
            shard_tokens=MOST_TOKENS,
            documents=self.rules.documents,
            validation_fraction=self.validation_fraction,
            kept=[[], []],
            num_threads=self.threads,
            first_document=first_document,
            count_only=count_only,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counts:
    """What a piece holds of one split."""

    num_documents: int
    num_tokens: int
    num_bytes: int
    num_words: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """A run of files as tokens."""

    name: str
    counts: tuple[Counts, Counts]
    """For the train and the validation split."""
    left_out: list[LeftOut]
    num_repaired: int

    def shard(self, split: int) -> Path:
        """Return the path of the shard of a split, below the folder of pieces."""
        return Path(self.name) / f"{SPLITS[split]}-00000.tok"

    @classmethod
    def read(cls, folder: Path) -> Piece:
        """Read a piece from its directory. Raises DataError."""
        values = files.read_json(folder / _PIECE_NAME)
        try:
            train, validation = (Counts(**counts) for counts in values["counts"])
            left_out = [LeftOut(**item) for item in values["left_out"]]
            return cls(
                name=folder.name, counts=(train, validation), left_out=left_out, num_repaired=values["num_repaired"]
            )
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"{folder} is damaged: {error}") from error


def count_documents(setup: Setup, number: int, run: Run) -> tuple[int, int]:
    """Return the number of a run and of its documents."""
    ingest = setup.ingest(setup.out, count_only=True)
    _feed(setup, setup.reader(), ingest, run, "train", setup.out)
    return number, sum(counts[0] for counts in ingest.counts())


def encode_run(setup: Setup, number: int, run: Run, first_document: int, split: str) -> tuple[int, Piece]:
    """Make the piece of a run, whose documents are numbered from `first_document` on. Return its number and the piece.

    With the split `validation` all documents are held out.
    """
    digest = hashlib.sha256(repr((run, first_document, split)).encode(errors="surrogatepass"))
    path = setup.pieces / digest.hexdigest()[:32]
    if path.is_dir():
        with contextlib.suppress(DataError):
            commits.verify_directory(path)
            return number, Piece.read(path)
    entries: dict[str, commits.Entry] = {}
    with commits.commit_directory(path, entries) as folder:
        ingest, reader = setup.ingest(folder, first_document=first_document), setup.reader()
        if split == "validation":
            ingest.hold_out_all()
        for name, _, _, _, digest_of_shard in _feed(setup, reader, ingest, run, split, folder):
            entries[name] = {"size": (folder / name).stat().st_size, "sha256": digest_of_shard}
        _write_piece(folder, ingest, reader)
    return number, Piece.read(path)


def write_shard(
    setup: Setup, split: int, number: int, paths: list[Path], start: int, stop: int
) -> tuple[int, int, Row]:
    """Write tokens `start … stop-1` of pieces that follow each other as a shard. Return split, number and row."""
    with files.disk_full_named(setup.out):
        pieces = TokenSplit(paths, mapped=False)
        return split, number, pieces.write_shard(start, stop, setup.out / f"{SPLITS[split]}-{number:05}.tok")


def _feed(setup: Setup, reader: Reader, ingest: Ingest, run: Run, split: str, out: Path) -> list[Row]:
    """Read a run to its end, and return the shards that the engine has written."""
    with contextlib.chdir(setup.current):
        Feeding(reader, ingest, out, lambda: None).feed(run, split)
        return [row for rows in ingest.finish() for row in rows]


def _write_piece(folder: Path, ingest: Ingest, reader: Reader) -> None:
    names = [field.name for field in dataclasses.fields(Counts)]
    values: dict[str, Any] = {
        "counts": [dict(zip(names, counts, strict=True)) for counts in ingest.counts()],
        "left_out": [dataclasses.asdict(item) for item in reader.account.left_out],
        "num_repaired": reader.decoder.num_repaired,
    }
    files.write_new(folder / _PIECE_NAME, [json.dumps(values).encode()])
