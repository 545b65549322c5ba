from __future__ import annotations

import json

import datasets
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tttkit.data.records import json_values
from tttkit.data.sources import parse_source
from tttkit.errors import DataError, UsageError

from .conftest import TEXTS, read, reader

# Other tests of the process train, which lets torch round the smallest floats to zero.
FLOATS = st.floats(allow_nan=False, allow_subnormal=False)


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


BROKEN = {
    "null": ('{"text": null}', "field `text` holds null"),
    "missing": ('{"body": "x"}', "no field `text`"),
    "number": ('{"text": 3}', "field `text` holds a number"),
    "torn": ('{"text": "x', "not JSON"),
    "list": ("[1]", "not a JSON object"),
    "half": ('{"text": "\\ud83d"}', "half of a surrogate pair"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_record_is_an_error_with_its_line_or_left_out_and_counted(tmp_path, kind):
    line, why = BROKEN[kind]
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n\n' + line + '\n{"text": "b"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl: line 3"):
        read(path)
    rules = reader(bad_records="skip")
    assert list(parse_source(str(path)).documents(rules, "train")) == ["a", "b"]
    assert [(item.what, item.why, item.count, item.first) for item in rules.account.left_out] == [
        ("records", why, 1, f"{path}: line 3")
    ]


def test_invalid_utf8_in_a_record_obeys_both_rules(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl: invalid UTF-8 in line 2, byte 14"):
        read(path)
    assert read(path, bad_records="skip") == ["a"]
    assert read(path, bad_utf8="replace") == ["a", "caf\ufffd"]


def test_text_columns_that_are_not_utf8_obey_both_rules(tmp_path):
    """Spark and parquet-go write such columns."""
    values = [b"plain", b"caf\xe9", None, b"more"]
    raw = pyarrow.array(values, pyarrow.binary())
    column = pyarrow.Array.from_buffers(pyarrow.string(), len(raw), raw.buffers())
    for name, array in (("plain", column), ("dictionary", column.dictionary_encode())):
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pyarrow.table({"text": array}), path)
        with pytest.raises(DataError, match=rf"{name}\.parquet: row 2: invalid UTF-8 in line 1, byte 4 \(0xe9\)"):
            read(path)
        assert read(path, bad_records="skip") == ["plain", "more"]
        assert read(path, bad_records="skip", bad_utf8="replace") == ["plain", "caf\ufffd", "more"]


def test_numbers_of_any_length_beside_the_text_do_not_matter(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": ' + "1" * 5000 + ', "text": "a"}\n')
    assert read(tmp_path / "a.jsonl") == ["a"]


def test_json_of_every_layout_is_read(tmp_path):
    path, records = tmp_path / "a.json", [{"text": text, "id": [1, {"b": "]"}]} for text in TEXTS]
    layouts = {
        "one list": json.dumps(records),
        "indented list": json.dumps(records, indent=2),
        "lines": "\n".join(map(json.dumps, records)),
        "indented records": "\n".join(json.dumps(record, indent=2) for record in records),
        "byte order mark": "\ufeff" + json.dumps(records),
    }
    for layout, content in layouts.items():
        path.write_text(content)
        assert read(path) == TEXTS, layout
    path.write_text("[]")
    assert read(path) == []
    for content, message in [
        (json.dumps(records)[:-1], "a.json is damaged: its list of records ends after record 3"),
        (json.dumps(records) + "x", "text follows its list"),
        ('[{"text": "a"}, {"text": tru}]', "record 2 is not JSON"),
        ('[{"text": "a"}, 3]', "record 2 is not a JSON object"),
        ('{"text": "a"}\n{"text": \n', "a.json: line 2 is not JSON"),
    ]:
        path.write_text(content)
        with pytest.raises(DataError, match=message):
            read(path)


@given(
    records=st.lists(
        st.dictionaries(st.text(max_size=5), st.text(max_size=30) | st.lists(FLOATS)),
        max_size=6,
    ),
    indent=st.sampled_from([None, 1]),
    length=st.integers(1, 7),
)  # fmt: skip
def test_a_list_in_pieces_of_any_length_gives_its_records(records, indent, length):
    content = json.dumps(records, indent=indent, ensure_ascii=False)
    pieces = [content[at : at + length] for at in range(0, len(content), length)]
    assert list(json_values(iter(pieces), "a")) == records


def test_records_are_cut_by_the_rules_of_documents(tmp_path):
    """WikiText has one line per record, and an article may go on in the next file."""
    rows = ["", " = One = \n", " words \n", "", " more \n", " = Two = \n", " end \n"]
    for name, part in (("1", rows[:4]), ("2", rows[4:])):
        parquet.write_table(pyarrow.table({"text": part}), tmp_path / f"{name}.parquet")
    articles = [" = One = \n words \n more \n", " = Two = \n end \n"]
    assert read(tmp_path, documents="wikitext") == articles
    assert read(tmp_path, document_pattern="^ = [^=]") == articles
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    assert read(tmp_path / "a.jsonl", documents="wikitext") == articles
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "a\nb\u2028c\n\nd"}) + "\n" + json.dumps({"text": "e\n"}))
    assert read(tmp_path / "b.jsonl", documents="line") == ["a", "b\u2028c", "d", "e"]
    assert read(tmp_path / "b.jsonl", documents="blank-line") == ["a\nb\u2028c\n", "d", "e\n"]
