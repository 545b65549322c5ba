"""Imports go one way: cli -> tttkit -> tttkit._rust, and inside as ARCHITECTURE.md says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "python" / "tttkit"
FOUNDATION = {
    "commits",
    "config",
    "config_layers",
    "device",
    "errors",
    "files",
    "filesystem",
    "memory_events",
    "model_config",
    "presets",
    "processes",
    "rundir",
}
ALLOWED = {
    "data": {"_rust"},
    "models": set(),
    "evaluate": {"_rust", "data", "models"},
    "train": {"data", "models", "evaluate"},
    "infer": {"data", "models"},
    "analyze": {"_rust"},
    "report": {"analyze"},
}
"""Package of the library to the packages it may import, beside itself and the foundation."""


def imports_of(path: Path) -> set[str]:
    """Dotted names of everything a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def package_of(path: Path) -> str:
    relative = path.relative_to(LIBRARY)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


FILES = sorted(LIBRARY.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_library_imports_downwards(path):
    package = package_of(path)
    imported = {name.split(".")[1] for name in imports_of(path) if name.startswith("tttkit.")}
    allowed = ALLOWED.get(package, set()) | FOUNDATION | {package, "__version__"}
    assert imported <= allowed, f"{package} must not import {sorted(imported - allowed)}"
    outside = {name.split(".")[0] for name in imports_of(path)}
    assert not outside & {"typer", "rich", "click", "tttkit_cli", "cli"}
    if package == "report":
        assert "torch" not in outside


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_library_prints_nothing(path):
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    assert not any(isinstance(function, ast.Name) and function.id == "print" for function in calls)


@pytest.mark.parametrize("path", sorted((ROOT / "cli").glob("*.py")), ids=lambda path: path.name)
def test_command_line_imports_heavy_packages_inside_functions_only(path):
    top_level = ast.parse(path.read_text())
    names = set()
    for node in top_level.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(str(node.module).split(".")[0])
    assert not names & {"torch", "numpy", "matplotlib", "datasets", "tokenizers"}


def test_rust_names_pyo3_in_its_bindings_only():
    sources = (ROOT / "rust" / "src").rglob("*.rs")
    offenders = [path.name for path in sources if "bindings" not in path.parts and "pyo3::" in path.read_text()]
    assert offenders == []
