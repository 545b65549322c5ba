from __future__ import annotations

import json

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from tttkit.errors import DataError, UsageError

from .conftest import TEXTS, read


def test_jsonl(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text("\n".join(json.dumps({"body": text, "id": 1}) for text in TEXTS) + "\n\n")
    assert read(path, text_field="body") == TEXTS
    with pytest.raises(DataError, match="line 1 has no text field `text`"):
        read(path)
    path.write_text('{"text": "a"}\n{broken\n')
    with pytest.raises(DataError, match="records.jsonl: line 2 is not JSON"):
        read(path)
    path.write_text('{"text": "a"}\n[1]\n')
    with pytest.raises(DataError, match=r"records\.jsonl: line 2 is not a JSON object"):
        read(path)
    path.write_text('{"text": null}\n')
    with pytest.raises(DataError, match=r"records\.jsonl: line 1: field `text` must hold text, got null"):
        read(path)


def test_parquet_and_data_sets_on_disk(tmp_path):
    data = datasets.Dataset.from_dict({"text": TEXTS, "length": [len(text) for text in TEXTS]})
    data.to_parquet(tmp_path / "texts.parquet")
    data.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": data, "validation": data.select([1])}).save_to_disk(tmp_path / "splits")
    assert read(tmp_path / "texts.parquet") == TEXTS
    assert read(f"hf:{tmp_path / 'one'}") == TEXTS
    assert read(f"hf:{tmp_path / 'splits'}", split="validation") == [TEXTS[1]]
    with pytest.raises(DataError, match=r"texts\.parquet has no text field `body`; it has text, length"):
        read(tmp_path / "texts.parquet", text_field="body")
    with pytest.raises(DataError, match=r"texts\.parquet: row 1: field `length` must hold text, got a number"):
        read(tmp_path / "texts.parquet", text_field="length")
    with pytest.raises(UsageError, match="has no split `test`; it has train, validation"):
        read(f"hf:{tmp_path / 'splits'}", split="test")
    with pytest.raises(DataError, match=r"one: record 1 has no text field `body`; it has text, length"):
        read(f"hf:{tmp_path / 'one'}", text_field="body")


def test_records_without_text_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tttkit.data.records._PARQUET_ROWS", 2)
    path = tmp_path / "texts.parquet"
    parquet.write_table(pyarrow.table({"text": ["a", "", "b", None]}), path)
    with pytest.raises(DataError, match=r"texts\.parquet: row 4: field `text` must hold text, got null"):
        read(path)
    parquet.write_table(pyarrow.table({"text": ["a", "", "b", "c", "d"]}), path)
    assert read(path) == ["a", "b", "c", "d"]
    parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), path)
    assert read(path) == []
    for content in (b"", b"PAR1 and no more"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"texts\.parquet is damaged"):
            read(path)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises((DataError, UsageError), match="broken"):
        read(f"hf:{tmp_path / 'broken'}")
    with pytest.raises(UsageError, match="`hf:` names no data set"):
        read("hf:")
