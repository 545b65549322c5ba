"""One module makes every call that changes the disk; one more opens the files that are locked."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[2] / "python" / "tttkit"
CALLS = {
    "write_bytes", "write_text", "unlink", "rename", "replace", "mkdir", "rmdir", "rmtree", "truncate", "symlink_to",
    "save_file", "savefig", "copyfile", "copytree", "touch", "ftruncate", "pwrite", "savez", "tofile",
}  # fmt: skip
OURS = {"files", "filesystem", "current", "dataclasses"}
"""What such a call may be made on: `files.write_text`, `filesystem.current.rename`, `dataclasses.replace`."""
EXEMPT = {"storage/filesystem.py", "run/directory.py", "data/claim.py", "data/prepare.py", "data/benchmark.py"}
"""The calls themselves; lock files, written in place by their holders; text of a benchmark, in a temporary folder."""


def changes_of(path: Path) -> list[str]:
    """Calls that change the disk and are made on nothing of ours."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CALLS:
            base = node.func.value
            name = base.id if isinstance(base, ast.Name) else base.attr if isinstance(base, ast.Attribute) else ""
            is_text = node.func.attr == "replace" and len(node.args) == 2  # of a string
            if name not in OURS and not is_text:
                found.append(f"{path.name}:{node.lineno} {ast.unparse(node.func)}")
    return found


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda path: str(path.relative_to(LIBRARY)))
def test_every_write_goes_through_files(path):
    if str(path.relative_to(LIBRARY)) not in EXEMPT:
        allowed = {"mkdir", "savefig"}  # a directory for results; a figure into memory
        assert [call for call in changes_of(path) if call.rpartition(".")[2] not in allowed] == []
