"""Prepare text files with the tokenizer of a model, so that any text can be scored without a DATA directory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tttkit.data import prepare_dataset
from tttkit.data.tokenizer_folder import has_tokenizer
from tttkit.errors import UsageError
from tttkit.evaluate.request import find_model_directory

SPLIT = "train"
"""The split of the prepared data that holds all of the text."""


def prepare_own_text(texts: Sequence[Path], model: Path, beside: Path) -> Path:
    """Prepare text files with the model's own tokenizer and return the DATA directory, which lies in `beside`.

    A directory that was prepared from the same files before is used again. Raises UsageError if the model has no
    tokenizer or a file is missing, DataError for text that cannot be read.
    """
    directory = find_model_directory(model)
    if not has_tokenizer(directory):
        raise UsageError(
            f"{directory} holds no tokenizer to prepare text with", hint="prepare the text yourself and name it: --data"
        )
    digest = hashlib.sha256(f"{directory.absolute()}\n".encode(errors="surrogateescape"))
    for path in texts:
        try:
            state = path.stat()
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}", hint="--text names text files") from error
        digest.update(f"{path.absolute()}\n{state.st_size}\n{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
    data = beside / f"text_{digest.hexdigest()[:12]}"
    prepare_dataset([str(path) for path in texts], data, tokenizer=str(directory), validation_fraction=0.0)
    return data
