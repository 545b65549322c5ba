"""Imports go one way: cli -> tttkit -> tttkit._rust, and inside the library as in ARCHITECTURE.md."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
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
"""The packages below everything else, and what each may import."""
PACKAGES = {
    "data": {"_rust"},
    "models": set(),
    "evaluate": {"_rust", "data", "models"},
    "distributed": {"models"},
    "train": {"data", "models", "evaluate", "distributed"},
    "infer": {"data", "models"},
    "integrations": {"models"},
    "analyze": {"_rust"},
    "health": {"analyze"},
    "report": {"analyze", "health", "sweep"},
    "recall": {"analyze", "data", "evaluate", "infer", "models"},
    "quality": {"analyze", "data", "evaluate", "infer", "models"},
    "diagnose": {"analyze", "data", "evaluate", "models"},
    "sweep": {"analyze", "health"},
    "trackers": set(),
    "cluster": {"_rust", "data", "evaluate", "models", "sweep"},
}
"""The other packages of the library, and what each may import besides itself and the foundation."""
WITHOUT_TORCH = {"errors", "storage", "config", "run", "results", "analyze", "health", "report", "sweep", "trackers"}
"""Packages that never load torch, directly or through another module, so that `status` and `report` answer at once."""
WITH_TORCH = {"tttkit.storage.tensor_file"}
"""Modules of these packages that do load torch; the other modules must not import them."""
HEAVY = {"torch", "numpy", "matplotlib", "datasets", "tokenizers"}


def imports_of(path: Path) -> set[str]:
    """Return the dotted names of everything that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def package_of(path: Path) -> str:
    """Return the package, or the module at the top, that a file belongs to."""
    relative = path.relative_to(LIBRARY)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


FILES = sorted(LIBRARY.rglob("*.py"))


def test_every_package_is_listed():
    packages = {package_of(path) for path in FILES} - {"__init__"}
    assert packages == {*FOUNDATION, *PACKAGES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_library_imports_downwards(path):
    package = package_of(path)
    imported = {name.split(".")[1] for name in imports_of(path) if name.startswith("tttkit.")}
    below = FOUNDATION[package] if package in FOUNDATION else {*PACKAGES.get(package, set()), *FOUNDATION}
    allowed = {*below, package, "__version__"}
    assert imported <= allowed, f"{package} must not import {sorted(imported - allowed)}"
    outside = {name.split(".")[0] for name in imports_of(path)}
    assert not outside & {"typer", "rich", "click", "tttkit_cli", "cli"}
    if package in WITHOUT_TORCH and module_of(path) not in WITH_TORCH:
        assert "torch" not in outside


def module_of(path: Path) -> str:
    """Return the dotted name of a file of the library."""
    parts = path.relative_to(LIBRARY.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


_LOAD_EACH = """
import importlib, json, sys
class Refuse:
    was_asked = False
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            self.was_asked = True
            raise ImportError(name)
refuse, loaders = Refuse(), []
sys.meta_path.insert(0, refuse)
for name in sys.argv[1:]:
    refuse.was_asked = False
    try:
        importlib.import_module(name)
    except ImportError:
        assert refuse.was_asked, name
    if refuse.was_asked:
        loaders.append(name)
print(json.dumps(loaders))
"""
"""Import modules one after the other without torch, and print the names of modules that tried to load it."""


def modules_that_load_torch(names: list[str]) -> list[str]:
    """Import modules in a separate process, and return the names of those that load torch, directly or indirectly."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(LIBRARY.parent), *sys.path])}
    command = [sys.executable, "-c", _LOAD_EACH, *names]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def test_rooms_without_torch_do_not_load_it_indirectly():
    names = [module_of(path) for path in FILES if package_of(path) in WITHOUT_TORCH]
    assert len(names) > 40
    assert set(modules_that_load_torch(names)) == WITH_TORCH


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
