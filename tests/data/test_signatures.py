from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import struct
import tarfile
import zipfile

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather, parquet

from tttkit.data.signatures import HEAD_BYTES, invalid_share, is_json_record, recognize

ENGLISH = "The cat sat on the mat, and it rained.\n" * 20
RUSSIAN = "Все счастливые семьи похожи друг на друга.\n" * 20


def tar(format_=tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as file:
        entry = tarfile.TarInfo("a.txt")
        entry.size = len(ENGLISH)
        file.addfile(entry, io.BytesIO(ENGLISH.encode()))
    return buffer.getvalue()


def old_tar() -> bytes:
    """A tar file of Unix version 7, which has no magic word."""
    header = bytearray(tar(tarfile.USTAR_FORMAT))
    header[257:265] = bytes(8)
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header[:512]):06o}\0 ".encode()
    return bytes(header)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.txt", ENGLISH)
    return buffer.getvalue()


def table(write) -> bytes:
    buffer = io.BytesIO()
    write(pyarrow.table({"text": ["a", "b"]}), buffer)
    return buffer.getvalue()


def database(path) -> bytes:
    with sqlite3.connect(path) as connection:
        connection.execute("create table a (text)")
    return path.read_bytes()


def safetensors() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(4))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tar", tar()), ("tar", tar(tarfile.GNU_FORMAT)), ("tar", old_tar()), ("zip", archive()),
        ("gzip", gzip.compress(b"a", mtime=0)), ("bzip2", bz2.compress(b"a")), ("xz", lzma.compress(b"a")),
        ("zstd", pyarrow.compress(b"a", codec="zstd", asbytes=True)), ("zstd", struct.pack("<II", 0x184D2A50, 0)),
        ("parquet", table(parquet.write_table)), ("Arrow", table(feather.write_feather)),
        ("weights", safetensors()), ("numbers", array()), ("pickle", b"\x80\x04K\x01."),
        ("picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), ("picture", b"GIF89a\x01\0\x01\0"),
        ("sound", b"\0\0\0\x18ftypmp42"),
        ("PDF", b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\n"), ("RTF", rb"{\rtf1\ansi hello}"),
        ("program", b"\x7fELF\x02\x01\x01" + bytes(9)), ("program", b"MZ\x90\0\x03\0\0\0"),
        ("Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"),
        ("macOS", b"\0\x05\x16\x07\0\x02\0\0Mac OS X"), ("Office", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        *((f"UTF-{bits}", text.encode(f"utf-{bits}{order}"))
          for bits in (16, 32) for order in ("", "-le", "-be") for text in (ENGLISH, "hi")),
        ("UTF-16", RUSSIAN.encode("utf-16-le")), ("UTF-16", RUSSIAN.encode("utf-16-be")),
        ("another encoding", RUSSIAN.encode("cp1251")),
        ("another encoding", ("漢字かな交じり文" * 40).encode("gb18030")),
        ("binary", bytes(100)), ("binary", np.random.default_rng(0).bytes(HEAD_BYTES)),
    ],
)  # fmt: skip
def test_a_content_that_is_not_text_is_recognized(name, content):
    kind = recognize(content[:HEAD_BYTES])
    assert kind is not None
    assert name in kind.name
    assert "bad-utf8" not in kind.advice


def test_a_database_is_recognized(tmp_path):
    assert "SQLite" in recognize(database(tmp_path / "a.db")[:HEAD_BYTES]).name


@given(text=st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=300))
def test_text_is_never_refused(text):
    assert recognize(text.encode()[:HEAD_BYTES]) is None


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0 nul \0", b"MZ is a name: caf\xc3\xa9", b"ORC raids", b"BM", b"PAR1 is a magic word", b"RIFF",
        b"ID3 tags",
        b"GIF89a is a format", b"BZh91 is a header", b"caf\xe9 " * 3, b"one\0two\0three\0" * 2, b"\x1b[31mred\x1b[0m",
        RUSSIAN.encode(), RUSSIAN.encode()[1:], ENGLISH.encode() + b"\xe9", ENGLISH.replace("a", "é").encode("latin-1"),
        b"#!/bin/sh\necho", b"\xef\xbb\xbfmark", b"0000000\x20" * 80, b"x" * 147 + b"0000000\0" + b"y" * 400,
    ],
)  # fmt: skip
def test_text_that_resembles_something_else_is_text(content):
    assert recognize(content) is None


def test_json_records_are_told_from_text():
    for content in (b'{"text": "a"}', b' [\n{"te\\"xt" :1', b'\xef\xbb\xbf{"a":'):
        assert is_json_record(content)
    for content in (b"", b"{}", b"{a: 1}", b'{"quoted" text}', b'"a": 1', b"[1, 2]", b"[note] {x}"):
        assert not is_json_record(content)


def test_the_share_of_invalid_bytes():
    assert invalid_share(b"") == 0
    assert invalid_share(b"abc\xff") == 0.25
