"""Characters, line ends, byte order marks and invalid bytes at the edges of the blocks in which files are read."""

from __future__ import annotations

import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tttkit.data import open_split, prepare_dataset
from tttkit.data.text import Utf8Decoder, read_pieces
from tttkit.data.tokenizer import load_decoder
from tttkit.errors import DataError

BLOCK = 256 << 10
FACE = "😀".encode()


def prepared(tmp_path, tokenizer_json, content, **options):
    """Prepare `content` and return the decoded text of every document, without end-of-text tokens."""
    (tmp_path / "text.txt").write_bytes(content)
    source, out = str(tmp_path / "text.txt"), tmp_path / "data"
    prepare_dataset([source], out, str(tokenizer_json), validation_fraction=0, **options)
    split, decode, start, texts = open_split(out, "train"), load_decoder(tokenizer_json), 0, []
    for end in split.document_ends.tolist():
        texts.append(decode(split.tokens(start, end - 1).tolist()))
        start = end
    return texts


def filler(num_bytes):
    line = b"the cat sat on the mat\n"
    return (line * (num_bytes // len(line) + 1))[-num_bytes:]


@pytest.mark.parametrize("before", [1, 2, 3, 4])
@pytest.mark.parametrize("blocks", [1, 2])
def test_a_character_across_two_blocks_stays_whole(tmp_path, tokenizer_json, blocks, before):
    content = filler(blocks * BLOCK - before) + FACE + filler(1000)
    assert prepared(tmp_path, tokenizer_json, content) == [content.decode()]


@pytest.mark.parametrize("before", range(5))
@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_truncated_character_at_the_edge_of_a_block_is_named_with_line_and_byte(
    tmp_path, tokenizer_json, kept, before
):
    start = filler(BLOCK - before)
    content = start + FACE[:kept] + filler(1000)
    line, byte = 1 + start.count(b"\n"), len(start) - start.rfind(b"\n")
    with pytest.raises(DataError, match=rf"text\.txt: invalid UTF-8 in line {line}, byte {byte} \(0xf0\)"):
        prepared(tmp_path, tokenizer_json, content)
    assert not (tmp_path / "data").exists()
    replaced = prepared(tmp_path, tokenizer_json, content, bad_utf8="replace")
    assert replaced == [content.decode(errors="replace")]


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_file_that_ends_within_a_character_is_refused(tmp_path, tokenizer_json, kept):
    for length in (10, BLOCK - kept, BLOCK):
        with pytest.raises(DataError, match=r"text\.txt: invalid UTF-8 in line \d+, byte \d+ \(0xf0\)"):
            prepared(tmp_path, tokenizer_json, filler(length) + FACE[:kept])


@pytest.mark.parametrize("rule", ["line", "blank-line"])
@pytest.mark.parametrize("before", [0, 1, 2, 3])
def test_a_line_end_across_two_blocks_is_one_line_end(tmp_path, tokenizer_json, rule, before):
    end = b"\r\n\r\n"
    start = filler(BLOCK - before).rstrip(b"\n") + b"x" * filler(BLOCK - before).endswith(b"\n")
    content = start + end + b"after\r\n"
    texts = prepared(tmp_path, tokenizer_json, content, documents=rule)
    assert texts[-1] == ("after" if rule == "line" else "after\r\n")
    lines = start.decode().split("\n")
    expected = lines if rule == "line" else [start.decode() + "\r\n"]
    assert texts[:-1] == expected


def test_a_byte_order_mark_is_dropped_at_the_start_only(tmp_path, tokenizer_json):
    mark = b"\xef\xbb\xbf"
    content = mark + filler(BLOCK - 4) + mark + b"middle\n" + mark
    assert prepared(tmp_path, tokenizer_json, content) == [content[3:].decode()]


BYTES = st.lists(st.sampled_from([b"a", b"\n", "é".encode(), FACE, FACE[:3], b"\xff", "\ufeff".encode()]), max_size=30)


def text_or_error(read):
    try:
        return read()
    except DataError as error:
        return str(error)


@given(content=BYTES.map(b"".join), piece_bytes=st.integers(3, 12))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_give_the_whole_text_or_the_same_error(monkeypatch, content, piece_bytes):
    monkeypatch.setattr("tttkit.data.text.PIECE_BYTES", piece_bytes)
    pieces = text_or_error(lambda: "".join(read_pieces(io.BytesIO(content), "name")))
    assert pieces == text_or_error(lambda: Utf8Decoder().decode(content.removeprefix(b"\xef\xbb\xbf"), "name"))
