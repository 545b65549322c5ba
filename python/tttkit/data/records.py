"""Read texts from records: one field of JSON lines, of other JSON, or of a parquet file.

A record without text in the field is an error that names the record, or it is left out and counted. An empty text
stays an empty string here.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from tttkit.data.account import RECORDS
from tttkit.data.reader import Reader
from tttkit.data.text import BOM, DROP_HINT, decode_pieces
from tttkit.errors import DataError

_PARQUET_ROWS = 1024
_NAME_FIELD = "name the field that holds the text with --text-field"
_LEAVE_OUT = "--bad-records skip leaves such records out"
_JSON = json.JSONDecoder(parse_int=float)
"""Numbers are never text, so their exact value is not needed; `int` refuses more than 4,300 digits."""
_LITERAL = 12
"""Longest literal or escape of JSON: an error so close to the end of the buffer may be about a value cut in two."""
_JSON_HEAD = 1 << 16


def jsonl_texts(lines: Iterable[bytes], name: str, reader: Reader) -> Iterator[str]:
    """Return the texts of JSON lines. Blank lines count as empty texts. Raises DataError naming the line."""
    # `map` keeps no record while it waits for the next: one record may be large.
    return map(lambda number, line: _line_text(line, name, number, reader), itertools.count(1), lines)


def json_texts(file: IO[bytes], name: str, reader: Reader) -> Iterator[str]:
    """Return the texts of a JSON file: a list of records, records one after another, or one record per line."""
    from tttkit.data.opening import with_head

    head, file = with_head(file, _JSON_HEAD)
    line, end, _ = head.removeprefix(BOM).lstrip().partition(b"\n")
    if line.startswith(b"{") and end and _is_json(line):
        return jsonl_texts(file, name, reader)
    values = json_values(decode_pieces(file, name, reader.decoder), name)
    return (
        _record_text(value, f"{name}: record {number}", reader, may_hold_halves=True)
        for number, value in enumerate(values, start=1)
    )


def json_fields(head: bytes) -> list[str] | None:
    """Return the fields of the first record of a JSON content; None if it does not fit into `head`."""
    try:
        first: Any = next(json_values(iter([head.decode("utf-8-sig", "replace")]), "", is_part=True), {})
    except (DataError, RecursionError):
        return None
    return list(first) if isinstance(first, dict) else []


def json_values(pieces: Iterator[str], name: str, *, is_part: bool = False) -> Iterator[Any]:
    """Yield the values of a list, or values one after another, without holding more than one of them and a piece.

    Raises DataError naming the value that cannot be read. `is_part`: the pieces are only a part of the content.
    """
    buffer, in_list, number = _Buffer(pieces), False, 0
    if buffer.skip_space() == "[":
        in_list = True
        buffer.at += 1
    while (character := buffer.skip_space(",")) and not (in_list and character == "]"):
        number += 1
        try:
            yield buffer.value()
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}: record {number} is not JSON that can be read: {error}") from error
    if in_list and character != "]" and not is_part:
        raise DataError(f"{name} is damaged: its list of records ends after record {number} without `]`")
    if in_list and character:
        buffer.at += 1
        if buffer.skip_space():
            raise DataError(f"{name} is damaged: text follows its list of records")


class _Buffer:
    """The text of which one value is parsed at a time."""

    def __init__(self, pieces: Iterator[str]) -> None:
        self._pieces, self._text, self.at, self._is_whole = pieces, "", 0, False

    def value(self) -> Any:
        """Parse the next value. Raises ValueError, RecursionError."""
        while True:
            try:
                value, end = _JSON.raw_decode(self._text, self.at)
            except json.JSONDecodeError as error:
                may_be_cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _LITERAL
                if not may_be_cut or self._is_whole:
                    raise
            else:
                if end < len(self._text) or self._is_whole or isinstance(value, dict | list):
                    self.at = end
                    return value
            self._more()

    def skip_space(self, other: str = "") -> str:
        """Go to the next character that is no white space and not in `other`. Return it; empty at the end."""
        while True:
            while self.at < len(self._text):
                character = self._text[self.at]
                if character not in " \t\r\n" and character not in other:
                    return character
                self.at += 1
            if self._is_whole:
                return ""
            self._more()

    def _more(self) -> None:
        """Drop what was parsed and at least double the rest, so that a long value is parsed a few times only."""
        parts = [self._text[self.at :]]
        wanted, self.at = len(parts[0]), 0
        while wanted >= 0 and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            wanted -= len(piece)
        self._is_whole = wanted >= 0
        self._text = "".join(parts)


def parquet_texts(file: IO[bytes], name: str, reader: Reader) -> Iterator[str]:
    """Yield the texts of one column. Other columns are not read; a few rows are in memory. Raises DataError."""
    import pyarrow
    from pyarrow import parquet

    field = reader.rules.field
    try:
        table = parquet.ParquetFile(file)
        if field not in table.schema_arrow.names:
            raise no_field(name, field, table.schema_arrow.names)
        row = 0
        for batch in table.iter_batches(batch_size=_PARQUET_ROWS, columns=[field]):
            for value in _values(batch.column(0)):
                row += 1
                yield field_text(value, f"{name}: row {row}", reader)
    except pyarrow.ArrowException as error:
        raise DataError(f"{name} is damaged: {one_line(error)}") from error


def _values(column: Any) -> Iterable[Any]:
    """Return the values of a column. Text that is not UTF-8, which some writers put into text columns, is bytes."""
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except UnicodeDecodeError:
        if hasattr(column, "dictionary_decode"):
            column = column.dictionary_decode()
        return (None if not value.is_valid else _InvalidText(value.as_buffer().to_pybytes()) for value in column)


class _InvalidText(bytes):
    """Bytes of a text column of which some are not UTF-8."""

    __slots__ = ()


def field_text(value: Any, where: str, reader: Reader) -> str:
    """Return the text of a field. If it has none, raise DataError naming the record, or leave it out."""
    if isinstance(value, _InvalidText):
        try:
            return reader.decoder.decode(value, where)
        except DataError as error:
            invalid = DataError(str(error), hint=f"{DROP_HINT}; {_LEAVE_OUT}")
            return bad_record(reader, where, "invalid UTF-8", invalid)
    if isinstance(value, str):
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    kind = "null" if value is None else "a number" if is_number else type(value).__name__
    field = reader.rules.field
    no_text = DataError(f"{where}: field `{field}` must hold text, got {kind}", hint=f"{_NAME_FIELD}; {_LEAVE_OUT}")
    return bad_record(reader, where, f"field `{field}` holds {kind}", no_text)


def bad_record(reader: Reader, where: str, why: str, error: DataError) -> str:
    """Raise the error of a record, or count the record as left out and return an empty text, as --bad-records says."""
    if reader.rules.bad_records == "error":
        raise error
    reader.account.leave_out(RECORDS, why, where)
    return ""


def no_field(where: str, field: str, known: Iterable[str]) -> DataError:
    """Return the error about a record or file without the text field."""
    return DataError(f"{where} has no text field `{field}`; it has {', '.join(known) or 'none'}", hint=_NAME_FIELD)


def one_line(error: Exception) -> str:
    """Return the message of a library in one line."""
    return " ".join(str(error).split())[:200]


def _line_text(line: bytes, name: str, number: int, reader: Reader) -> str:
    where = f"{name}: line {number}"
    try:
        text = reader.decoder.decode(line.removeprefix(BOM), name, first_line=number)
    except DataError as error:
        return bad_record(reader, where, "invalid UTF-8", error)
    if not text.strip():
        return ""
    try:
        record = _JSON.decode(text)
    except (ValueError, RecursionError) as error:
        broken = DataError(f"{where} is not JSON that can be read: {error}", hint=_LEAVE_OUT)
        return bad_record(reader, where, "not JSON", broken)
    return _record_text(record, where, reader, may_hold_halves="\\u" in text)


def _record_text(record: Any, where: str, reader: Reader, *, may_hold_halves: bool) -> str:
    field = reader.rules.field
    if not isinstance(record, dict):
        no_object = DataError(f"{where} is not a JSON object", hint=f"each line must be one record; {_LEAVE_OUT}")
        return bad_record(reader, where, "not a JSON object", no_object)
    if field not in record:
        return bad_record(reader, where, f"no field `{field}`", no_field(where, field, record))
    text = field_text(record[field], where, reader)
    if not may_hold_halves:
        return text
    try:
        return reader.decoder.whole_characters(text, where)
    except DataError as error:
        return bad_record(reader, where, "half of a surrogate pair", error)


def _is_json(line: bytes) -> bool:
    try:
        _JSON.decode(line.decode("utf-8", "replace").strip())
    except (ValueError, RecursionError):
        return False
    return True
