from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import tttkit
from tttkit import _rust

ROOT = Path(__file__).resolve().parents[1]


def test_one_version_everywhere():
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert tttkit.__version__ == _rust.__version__ == importlib.metadata.version("tttkit") == cargo == project


def test_the_command_works_from_any_folder():
    """An editable install finds the command through the symlink python/tttkit_cli."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = Path(sys.executable).with_name("tttkit")
    result = subprocess.run([command, "--version"], cwd="/", env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"tttkit {tttkit.__version__}\n")


def test_every_dependency_is_justified_and_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = [name.split(">")[0] for name in named]
    contributing, pinned = (ROOT / "CONTRIBUTING.md").read_text(), (ROOT / "constraints.txt").read_text().splitlines()
    assert [name for name in names if name not in contributing] == []
    assert [name for name in names if not any(line.startswith(f"{name}==") for line in pinned)] == []
    crates = tomllib.loads((ROOT / "rust" / "Cargo.toml").read_text())
    assert [name for name in (*crates["dependencies"], *crates["dev-dependencies"]) if name not in contributing] == []


def test_type_information_is_shipped():
    assert (Path(tttkit.__file__).parent / "py.typed").exists()
    assert (Path(tttkit.__file__).parent / "_rust.pyi").exists()
