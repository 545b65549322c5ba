"""Read texts from a Hugging Face data set, in a local folder or on the hub."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tttkit.data.file_tree import walk
from tttkit.data.hub import stay_offline_if_unreachable
from tttkit.data.reader import Reader
from tttkit.data.records import bad_record, field_text, no_field, one_line
from tttkit.errors import DataError, UsageError

_SAVED = ("dataset_info.json", "dataset_dict.json")
"""Files by which a folder of `save_to_disk` is known."""


def data_set_texts(name: str, config: str | None, split: str, where: str, reader: Reader) -> Iterator[str]:
    """Yield the texts of a Hugging Face data set, in the local folder `name` or on the hub.

    Error messages call the data set `where`. Raises UsageError if it cannot be loaded, DataError for a bad record.
    """
    records = iter(_load(name, *([config] if config else []), split=split))
    field, number = reader.rules.field, 0
    while True:
        number += 1
        try:
            record = next(records, None)
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(f"{where}: record {number} cannot be read: {one_line(error)}") from error
        if record is None:
            return
        place = f"{where}: record {number}"
        if field in record:
            yield field_text(record[field], place, reader)
        else:
            yield bad_record(reader, place, f"no field `{field}`", no_field(place, field, record))


def is_folder(name: str) -> bool:
    """Whether the data set is a local folder."""
    return Path(name).is_dir()


def unused_files(name: str, config: str | None) -> Iterator[Path]:
    """Yield the files of a local folder that are in no split of the data set. Raises UsageError."""
    if not is_folder(name) or _is_saved(name):
        return
    import datasets

    with _errors_named(name):
        builder = datasets.load_dataset_builder(name, *([config] if config else []))
    groups = (builder.config.data_files or {}).values()
    used = {os.path.realpath(file) for group in groups for file in group}
    for path in walk(Path(name), lambda _: True):
        if os.path.realpath(path) not in used:
            yield path


def _is_saved(name: str) -> bool:
    return any((Path(name) / file).exists() for file in _SAVED)


def _load(name: str, *config: str, split: str) -> Iterable[dict[str, Any]]:
    import datasets

    datasets.disable_progress_bars()
    # `datasets` also raises every error that it logs.
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if not Path(name).exists():
        stay_offline_if_unreachable()
    with _errors_named(name):
        if not _is_saved(name):
            return datasets.load_dataset(name, *config, split=split, streaming=True)  # type: ignore[no-any-return]
        loaded = datasets.load_from_disk(name)
    if not isinstance(loaded, datasets.DatasetDict):
        return loaded  # type: ignore[no-any-return]
    if split not in loaded:
        raise UsageError(
            f"data set {name} has no split `{split}`; it has {', '.join(loaded)}",
            hint="save one split to a folder of its own, or name another source",
        )
    return loaded[split]  # type: ignore[no-any-return]


@contextmanager
def _errors_named(name: str) -> Iterator[None]:
    """Turn the errors of `datasets` into a UsageError that names the data set."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(
            f"cannot load data set {name}: {one_line(error)}",
            hint="a name needs the network; a local folder made by save_to_disk, or holding jsonl or parquet, does not",
        ) from error
