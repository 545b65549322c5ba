from __future__ import annotations

import bz2
import gzip
import io
import os
import socket
import tarfile

import pytest

from tttkit.data.formats import PARQUET, TEXT
from tttkit.data.opening import check_file, open_binary, with_head
from tttkit.errors import DataError, UsageError


def test_a_content_that_is_not_what_the_name_says_is_refused_by_name(tmp_path):
    (tmp_path / "named.txt.gz").write_bytes(b"plain text")
    (tmp_path / "packed.txt").write_bytes(gzip.compress(b"text"))
    (tmp_path / "table.txt").write_bytes(b"PAR1\x15\0")
    with tarfile.open(tmp_path / "a.txt.gz", "w:gz") as file:
        file.add(tmp_path / "named.txt.gz", "a.txt")
    for name, message, hint in [
        ("named.txt.gz", "does not begin like gzip data", "remove .gz"),
        ("packed.txt", "is gzip data; expected UTF-8 text", "end in .gz"),
        ("table.txt", "is parquet", "--format parquet"),
        ("a.txt.gz", "is a tar archive", "tar -xf"),
    ]:
        with pytest.raises(DataError, match=message) as caught:
            check_file(tmp_path / name, TEXT)
        assert name in str(caught.value)
        assert hint in caught.value.hint
    with pytest.raises(DataError, match="expected parquet"):
        check_file(tmp_path / "packed.txt", PARQUET)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "socket", "missing", "folder"])
def test_what_is_not_a_file_is_refused_without_reading_it(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(UsageError, match=path):
            check_file(tmp_path / path, TEXT)


def test_damage_of_every_compression_names_the_file(tmp_path):
    for ending, whole in ((".gz", gzip.compress(os.urandom(999))), (".bz2", bz2.compress(os.urandom(999)))):
        (tmp_path / f"a.txt{ending}").write_bytes(whole[:400])
        with pytest.raises(DataError, match=rf"a\.txt\{ending} is damaged"):
            check_file(tmp_path / f"a.txt{ending}", TEXT)


def test_the_head_of_a_file_stays_readable():
    for size in (0, 3, 10):
        head, file = with_head(io.BytesIO(bytes(range(size))), 5)
        assert (head, file.read()) == (bytes(range(min(5, size))), bytes(range(size)))


def test_files_are_decompressed_by_their_endings(tmp_path):
    (tmp_path / "a.bz2").write_bytes(bz2.compress(b"one") + bz2.compress(b"two"))
    with open_binary(tmp_path / "a.bz2") as file:
        assert file.read() == b"onetwo"
