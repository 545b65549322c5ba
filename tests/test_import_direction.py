"""Imports go one way: cli -> tttkit -> tttkit._rust, and inside the library as ARCHITECTURE.md says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "python" / "tttkit"
COMMAND_LINE = ROOT / "cli"
FOUNDATION = {
    "errors": set(),
    "storage": {"errors"},
    "config": {"errors"},
    "run": {"errors", "storage", "results"},
    "device": {"errors", "run"},
    "results": {"errors", "storage"},
}
"""The rooms below everything else, and what each may import. None of them loads torch, `device` and the tensor files
of `storage` excepted."""
ROOMS = {
    "data": {"_rust"},
    "models": set(),
    "evaluate": {"_rust", "data", "models"},
    "train": {"data", "models", "evaluate"},
    "infer": {"data", "models"},
    "analyze": {"_rust"},
    "health": {"analyze"},
    "report": {"analyze", "health"},
}
"""Rooms of the library and what each may import beside itself and the foundation."""
WITHOUT_TORCH = {"config", "run", "results", "analyze", "health", "report"}
HEAVY = {"torch", "numpy", "matplotlib", "datasets", "tokenizers"}


def imports_of(path: Path) -> set[str]:
    """Dotted names of everything a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    """Name of the package, or of the module at the top, that a file belongs to."""
    relative = path.relative_to(LIBRARY)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


FILES = sorted(LIBRARY.rglob("*.py"))


def test_every_room_is_listed():
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms == {*FOUNDATION, *ROOMS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_library_imports_downwards(path):
    room = room_of(path)
    imported = {name.split(".")[1] for name in imports_of(path) if name.startswith("tttkit.")}
    below = FOUNDATION[room] if room in FOUNDATION else {*ROOMS.get(room, set()), *FOUNDATION}
    allowed = {*below, room, "__version__"}
    assert imported <= allowed, f"{room} must not import {sorted(imported - allowed)}"
    outside = {name.split(".")[0] for name in imports_of(path)}
    assert not outside & {"typer", "rich", "click", "tttkit_cli", "cli"}
    if room in WITHOUT_TORCH:
        assert "torch" not in outside


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_library_prints_nothing(path):
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    assert not any(isinstance(function, ast.Name) and function.id == "print" for function in calls)


@pytest.mark.parametrize("path", sorted(COMMAND_LINE.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_command_line_imports_heavy_packages_inside_functions_only(path):
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    assert not names & HEAVY


def test_rust_names_pyo3_in_its_bindings_only():
    sources = (ROOT / "rust" / "src").rglob("*.rs")
    offenders = [path.name for path in sources if "bindings" not in path.parts and "pyo3::" in path.read_text()]
    assert offenders == []
