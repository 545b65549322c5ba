"""Read texts from records: one field of jsonl lines, of a parquet file, or of a Hugging Face data set.

A record without text in the field is an error that names the record. An empty text is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from tttkit.data.hub import stay_offline_if_unreachable
from tttkit.data.text import Utf8Decoder
from tttkit.errors import DataError, UsageError

_PARQUET_ROWS = 1024
_NAME_FIELD = "name the field that holds the text with --text-field"


def jsonl_texts(lines: Iterable[tuple[int, str]], name: str, field: str, decoder: Utf8Decoder) -> Iterator[str]:
    """Return the texts of numbered JSON lines. Blank lines are skipped. Raises DataError naming the line."""

    def text_of(numbered: tuple[int, str]) -> str:
        number, line = numbered
        if not line.strip():
            return ""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}: line {number} is not JSON that can be read: {error}") from error
        if not isinstance(record, dict):
            raise DataError(f"{name}: line {number} is not a JSON object", hint="each line must be one record")
        text = _text(record, field, f"{name}: line {number}")
        return decoder.whole_characters(text, f"{name}: line {number}") if "\\u" in line else text

    # `map` keeps no record while it waits for the next: one record may be large.
    return filter(None, map(text_of, lines))


def parquet_texts(file: IO[bytes], name: str, field: str) -> Iterator[str]:
    """Yield the texts of one column. Other columns are not read; a few rows are in memory. Raises DataError."""
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        if field not in table.schema_arrow.names:
            raise _no_field(name, field, table.schema_arrow.names)
        batches = table.iter_batches(batch_size=_PARQUET_ROWS, columns=[field])
        texts = (text for batch in batches for text in batch.column(0).to_pylist())
        for row, text in enumerate(texts, start=1):
            if _text({field: text}, field, f"{name}: row {row}"):
                yield text
    except pyarrow.ArrowException as error:
        raise DataError(f"{name} is damaged: {_one_line(error)}") from error


def data_set_texts(name: str, config: str | None, split: str, *, field: str, where: str) -> Iterator[str]:
    """Yield the texts of a Hugging Face data set, in the local folder `name` or on the hub.

    Error messages call the data set `where`. Raises UsageError if it cannot be loaded, DataError for a bad record.
    """
    records = iter(_load_data_set(name, *([config] if config else []), split=split))
    number = 0
    while True:
        number += 1
        try:
            record = next(records, None)
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(f"{where}: record {number} cannot be read: {_one_line(error)}") from error
        if record is None:
            return
        text = _text(record, field, f"{where}: record {number}")
        if text:
            yield text


def _load_data_set(name: str, *config: str, split: str) -> Iterable[dict[str, Any]]:
    import datasets

    datasets.disable_progress_bars()
    # `datasets` also raises every error that it logs.
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if not Path(name).exists():
        stay_offline_if_unreachable()
    try:
        if (Path(name) / "dataset_info.json").exists() or (Path(name) / "dataset_dict.json").exists():
            loaded = datasets.load_from_disk(name)
            return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded  # type: ignore[no-any-return]
        return datasets.load_dataset(name, *config, split=split, streaming=True)  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(
            f"cannot load data set {name}: {_one_line(error)}",
            hint="a name needs the network; a local folder made by save_to_disk, or holding jsonl or parquet, does not",
        ) from error


def _text(record: dict[str, Any], field: str, where: str) -> str:
    if field not in record:
        raise _no_field(where, field, record)
    text = record[field]
    if not isinstance(text, str):
        kind = "null" if text is None else type(text).__name__
        raise DataError(f"{where}: field `{field}` must hold text, got {kind}", hint=_NAME_FIELD)
    return text


def _no_field(where: str, field: str, known: Iterable[str]) -> DataError:
    return DataError(f"{where} has no text field `{field}`; it has {', '.join(known)}", hint=_NAME_FIELD)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
