"""Only `storage` makes calls that change the disk, so that writes are atomic and tests can make them fail."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[2] / "python" / "tttkit"
CHANGES = {
    "write_bytes", "write_text", "unlink", "rename", "replace", "rmdir", "rmtree", "truncate", "symlink_to",
    "hardlink_to", "save_file", "copyfile", "copytree", "copy2", "touch", "ftruncate", "pwrite", "pwritev", "writev",
    "savez", "tofile", "makedirs", "removedirs", "mkfifo", "mkstemp", "NamedTemporaryFile", "fsync", "savefig",
}  # fmt: skip
"""Functions and methods that change the disk, no matter which object they are called on."""
CHANGES_OF = {
    "os": {"write", "remove", "link", "symlink", "mkdir"}, "shutil": {"copy", "move"}, "torch": {"save"},
    "numpy": {"save"}, "np": {"save"}, "json": {"dump"},
}  # fmt: skip
"""Functions that change the disk only if called on their module, because other objects have methods of these names.
`Path.mkdir` is allowed, because an empty directory holds nothing that could be lost."""
OURS = {"files", "filesystem", "current", "dataclasses"}
"""Names on which these methods are allowed: `files.write_text`, `filesystem.current.rename`, `dataclasses.replace`."""
OPENERS = {"gzip", "bz2", "lzma", "io"}
"""Modules whose `open` takes a path and a mode; `Path.open` takes the mode first."""
WRITING_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND", "O_TRUNC"}
EXEMPT = {
    "storage/filesystem.py": "makes the calls",
    "run/lock.py": "opens the lock file and writes the name of the holder into it, in place",
    "data/output.py": "opens the lock file of a data set and appends the digests of finished shards to it, in place",
    "data/prepare.py": "removes the lock file of a data set",
    "quality/mauve.py": "opens /dev/null to discard what a library prints",
}
"""Files that may make these calls, and the calls that they make."""


def changes_of(source: str) -> list[str]:
    """Return line and text of the calls in a source file that change the disk without `storage`."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [f"{call.lineno} {ast.unparse(call.func)}" for call in calls if _changes_the_disk(call)]


def _changes_the_disk(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name):
        is_function = call.func.id in CHANGES - {"write_bytes", "write_text"}  # calls of `files` itself
        return is_function or (call.func.id == "open" and _is_writing_mode(call, position=1))
    if not isinstance(call.func, ast.Attribute):
        return False
    name, base = call.func.attr, _name_of(call.func.value)
    if name == "open" and base == "os":
        return any(isinstance(node, ast.Attribute) and node.attr in WRITING_FLAGS for node in ast.walk(call))
    if name in ("open", "fdopen"):
        return _is_writing_mode(call, position=0 if name == "open" and base not in OPENERS else 1)
    if name == "replace" and base != "os" and len(call.args) != 1:
        return False  # of a string, or of fields given by keyword
    if name == "savefig" and call.args and _name_of(call.args[0]) == "buffer":
        return False  # into memory
    return name in CHANGES_OF.get(base, ()) or (name in CHANGES and base not in OURS)


def _name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_writing_mode(call: ast.Call, position: int) -> bool:
    """Return whether the mode of an `open` writes. A mode that is not a literal may write."""
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] or call.args[position : position + 1]
    return any(not isinstance(mode, ast.Constant) or set(str(mode.value)) & set("wax+") for mode in modes)


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_every_write_goes_through_storage(path):
    if str(path.relative_to(LIBRARY)) not in EXEMPT:
        assert changes_of(path.read_text()) == []


@pytest.mark.parametrize("name", EXEMPT)
def test_exempt_files_still_need_their_exemption(name):
    assert changes_of((LIBRARY / name).read_text())


@pytest.mark.parametrize(
    "violation",
    [
        'open(path, "w")', 'open(path, mode="ab")', "open(path, mode)", 'path.open("w")', 'path.open("r+b")',
        'path.open(mode="x")', 'gzip.open(path, "wb")', 'os.fdopen(descriptor, "w")', "os.write(descriptor, data)",
        "os.pwrite(descriptor, data, 0)", "os.open(path, os.O_WRONLY)", "os.open(path, os.O_RDONLY | os.O_CREAT)",
        'path.write_text("x")', "path.unlink()", "path.rename(other)", "path.replace(other)", "shutil.copy(a, b)",
        "shutil.rmtree(path)", "os.replace(a, b)", "numpy.savez(path)", "path.touch()", "save_file(path, {})",
        "torch.save(model, path)", "os.mkdir(path)", "json.dump(value, file)",
        "os.makedirs(path)", "os.remove(path)", "figure.savefig(path)",
    ],
)  # fmt: skip
def test_a_violation_is_noticed(violation):
    assert len(changes_of(f"def function():\n    {violation}\n")) == 1


@pytest.mark.parametrize(
    "reading",
    [
        "open(path)", 'open(path, "rb")', 'path.open("rb")', "path.open()", 'gzip.open(path, "rb")',
        "os.open(path, os.O_RDONLY | os.O_CLOEXEC)", 'os.fdopen(descriptor, "rb")', "stream.write(text)",
        'text.replace("a", "b")', "dataclasses.replace(config)", "files.write_text(path, text)", "values.copy()",
        "filesystem.current.rename(a, b)", "figure.savefig(buffer, format=name)", "trainer.save()",
        "path.mkdir()",
    ],
)  # fmt: skip
def test_reading_is_not_a_violation(reading):
    assert changes_of(reading) == []
