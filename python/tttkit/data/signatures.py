"""Recognize by its first bytes a content that is not UTF-8 text, whatever its name says.

Archives, pictures, databases and other encodings of text can be valid UTF-8 by accident (a `tar` of text files is), so
they would become training text without an error.
"""

from __future__ import annotations

import dataclasses
import re

HEAD_BYTES = 4096
"""Bytes at the start of a content that `recognize` needs."""
_SMALL = 32
"""Shorter contents are judged only by signatures: a share of so few bytes means nothing."""
_CONTROL = bytes({*range(0x20), 0x7F} - set(b"\t\n\v\f\r\x1b\x08\x1c\x1d\x1e\x1f"))
_NOT_IN_TEXT = _CONTROL + bytes(range(0xF8, 0x100))
_MOST_CONTROL = 0.1
"""Largest share of control characters in text."""
_MOST_INVALID = 0.3
"""Largest share of bytes that are not UTF-8 in text that is meant to be UTF-8."""

_UNPACK = "unpack it and name the files in it"
_CONVERT = "convert it to text first"
_EXPORT = "export its text first, for example as jsonl"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of content that is not text."""

    name: str
    advice: str
    """What to do about it."""


def _encoding(name: str, iconv: str) -> Kind:
    return Kind(f"{name} text", f"convert it to UTF-8: iconv -f {iconv} -t UTF-8")


GZIP, XZ, ZSTD, BZIP2 = (
    Kind(f"{name} data", f"let its name end in {ending}, or decompress it first")
    for name, ending in (("gzip", ".gz"), ("xz", ".xz"), ("zstd", ".zst"), ("bzip2", ".bz2"))
)
COMPRESSED = {".gz": GZIP, ".xz": XZ, ".zst": ZSTD, ".bz2": BZIP2}
PARQUET = Kind("parquet", "let its name end in .parquet, or pass --format parquet")
_ZIP = Kind("a zip archive (also docx, xlsx, epub, pt)", _UNPACK)
_TAR = Kind("a tar archive", "unpack it with tar -xf and name the folder")
_ARROW = Kind("Arrow data", "name the folder that save_to_disk wrote as hf:FOLDER")
_PICTURE, _SOUND = Kind("a picture", _CONVERT), Kind("sound or video", _CONVERT)
_WEIGHTS, _PROGRAM = Kind("weights of a model", "name text"), Kind("a program", "name text")
_NUMBERS = Kind("numbers, not text", "name the text that they were made from")
_BINARY = Kind("binary data", "name text")
_UTF32 = (_encoding("UTF-32", "UTF-32LE"), _encoding("UTF-32", "UTF-32BE"))
_UTF16 = (_encoding("UTF-16", "UTF-16LE"), _encoding("UTF-16", "UTF-16BE"))
_LFS = b"version https://git-lfs.github.com/spec/"
_SIGNATURES = (
    (b"\x1f\x8b", GZIP), (b"\xfd7zXZ\0", XZ), (b"\x28\xb5\x2f\xfd", ZSTD),
    *((f"BZh{level}1AY&SY".encode(), BZIP2) for level in range(1, 10)),
    *((bytes([byte]) + b"\x2a\x4d\x18", ZSTD) for byte in range(0x50, 0x60)),
    (b"\x04\x22\x4d\x18", Kind("lz4 data", "decompress it first")),
    (b"PK\x03\x04", _ZIP), (b"PK\x05\x06", _ZIP), (b"PK\x07\x08", _ZIP),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", _UNPACK)), (b"Rar!\x1a\x07", Kind("a rar archive", _UNPACK)),
    (b"!<arch>\n", Kind("an ar archive", _UNPACK)),
    (b"%PDF-", Kind("a PDF", "convert it to text first, for example with pdftotext")),
    (b"{\\rtf", Kind("an RTF document", _CONVERT)), (b"%!PS-Adobe", Kind("PostScript", _CONVERT)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Kind("an Office document", _CONVERT)),
    (b"PAR1", PARQUET), (b"PARE", Kind("encrypted parquet", "decrypt it first")),
    (b"ARROW1", _ARROW), (b"FEA1", _ARROW), (b"\xff\xff\xff\xff", _ARROW),
    (b"ORC", Kind("ORC data", _EXPORT)), (b"Obj\x01", Kind("Avro data", _EXPORT)),
    (b"SQLite format 3\0", Kind("an SQLite database", _EXPORT)), (b"\x89HDF", Kind("HDF5 data", _EXPORT)),
    (b"\x93NUMPY", _NUMBERS), (b"MMIDIDX", _NUMBERS), (b"GGUF", _WEIGHTS),
    *((b"\x80" + bytes([protocol]), Kind("a pickle", _EXPORT)) for protocol in range(2, 6)),
    (b"\x89PNG", _PICTURE), (b"\xff\xd8\xff", _PICTURE), (b"GIF8", _PICTURE), (b"BM", _PICTURE), (b"II*\0", _PICTURE),
    (b"MM\0*", _PICTURE), (b"RIFF", _SOUND), (b"ID3", _SOUND), (b"OggS", _SOUND), (b"fLaC", _SOUND),
    (b"\x1aE\xdf\xa3", _SOUND),
    (b"\x7fELF", _PROGRAM), (b"MZ", _PROGRAM), (b"\xca\xfe\xba\xbe", _PROGRAM), (b"\0asm", _PROGRAM),
    (b"\xcf\xfa\xed\xfe", _PROGRAM), (b"\xce\xfa\xed\xfe", _PROGRAM), (b"\xfe\xed\xfa\xcf", _PROGRAM),
    (_LFS, Kind("a Git LFS pointer", "fetch its content with git lfs pull")),
    (b"\0\x05\x16\x07", Kind("metadata that macOS keeps beside a file", "delete the files whose names begin with ._")),
    (b"\xff\xfe\0\0", _UTF32[0]), (b"\0\0\xfe\xff", _UTF32[1]), (b"\xff\xfe", _UTF16[0]), (b"\xfe\xff", _UTF16[1]),
)  # fmt: skip
_BY_FIRST_BYTE: dict[int, list[tuple[bytes, Kind]]] = {}
for _magic, _kind in _SIGNATURES:
    _BY_FIRST_BYTE.setdefault(_magic[0], []).append((_magic, _kind))
_DISTINCT = (b"%PDF-", b"{\\rtf", b"%!PS-Adobe", b"!<arch>\n", _LFS)
"""Signatures that no plain text begins with, although they are made of its characters."""
_JSON_RECORD = re.compile(rb'\s*(?:\[\s*)?\{\s*"(?:[^"\\\n]|\\.)*"\s*:')


def recognize(head: bytes) -> Kind | None:
    """Return what a content is by its first `HEAD_BYTES` bytes, or None if it can be UTF-8 text."""
    if not head:
        return None
    for magic, kind in _BY_FIRST_BYTE.get(head[0], ()):
        if head.startswith(magic) and (magic in _DISTINCT or _num_control(magic) or _num_control(head)):
            return kind
    if head[4:8] == b"ftyp" and _num_control(head):
        return _SOUND
    if _is_tar(head):
        return _TAR
    if _is_safetensors(head):
        return _WEIGHTS
    return _by_shares(head)


def is_json_record(head: bytes) -> bool:
    """Whether a content begins like a JSON object, or like a list of them."""
    return _JSON_RECORD.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def invalid_share(data: bytes) -> float:
    """Return the share of bytes that are not part of UTF-8 text."""
    return 1 - len(data.decode("utf-8", "ignore").encode()) / len(data) if data else 0.0


def _num_control(data: bytes) -> int:
    """Return the number of control characters, and of bytes that no UTF-8 text contains."""
    return len(data) - len(data.translate(None, _NOT_IN_TEXT))


def _is_tar(head: bytes) -> bool:
    """Whether the checksum of a tar header is right; old tar files have no other signature."""
    if len(head) < 512 or head[0] == 0:
        return False
    try:
        checksum = int(head[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return checksum == sum(head[:148]) + 8 * ord(" ") + sum(head[156:512])


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 9 and head[8:10] in (b'{"', b"{ ") and b"\0\0" in head[2:8]


def _by_shares(head: bytes) -> Kind | None:
    """Judge by the shares of NUL, control characters and bytes that are not UTF-8."""
    if b"\0" in head:
        wide = _wide_text(head)
        if wide is not None:
            return wide
    if len(head) < _SMALL:
        return None
    if len(head) - len(head.translate(None, _CONTROL)) > _MOST_CONTROL * len(head):
        return _narrow_alphabet(head) or _BINARY
    if len(head) >= 2 * _SMALL and not head.isascii() and (share := invalid_share(head)) > _MOST_INVALID:
        if b"\0" in head:
            return _BINARY
        return Kind(
            f"text in another encoding ({share:.0%} of its first bytes are not UTF-8)",
            "convert it to UTF-8: iconv -f ENCODING -t UTF-8, for example from CP1251, GB18030 or UTF-16LE",
        )
    return None


def _wide_text(head: bytes) -> Kind | None:
    """Recognize UTF-16 and UTF-32 without a byte order mark by the places of their NUL bytes."""
    if len(head) >= 8 and len(head) % 4 == 0:
        shares = [head[place::4].count(0) / (len(head) // 4) for place in range(4)]
        if min(shares[2:]) > 0.9 > shares[0]:
            return _UTF32[0]
        if min(shares[:2]) > 0.9 > shares[3]:
            return _UTF32[1]
    units = len(head) // 2
    low, high = (head[place::2].count(0) for place in (1, 0))
    # A short text must have a NUL in every unit, since plain text may hold a few.
    least = units if units < _SMALL else max(8, 0.3 * units)
    for kind, zeros, others in zip(_UTF16, (low, high), (high, low), strict=True):
        if len(head) % 2 == 0 and units > 1 and zeros >= least and others <= 0.02 * units:
            return kind
    return None


def _narrow_alphabet(head: bytes) -> Kind | None:
    """Recognize UTF-16 of an alphabet such as Cyrillic: every second byte has one of a few values."""
    low, high = (len(set(head[place::2])) for place in (0, 1))
    if max(low, high) >= 3 * min(low, high) and min(low, high) <= 6:
        return _UTF16[low < high]
    return None
