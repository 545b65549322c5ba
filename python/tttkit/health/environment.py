"""Examine this machine: packages, the extension, the free disk space, and leftovers in the current directory."""

from __future__ import annotations

import importlib
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tttkit
from tttkit.health.examination import Examination
from tttkit.health.leftovers import examine_folder

_PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "datasets", "matplotlib")


def examine_environment(*, fix: bool = False) -> list[Examination]:
    """Examine packages, the extension, the free disk space, and leftovers in the current directory.

    With `fix`, leftovers whose writer has ended are removed.
    """
    message = f"tttkit {tttkit.__version__}, Python {sys.version.split()[0]}"
    results = [Examination(level="ok", check="environment", message=message)]
    for name in _PACKAGES:
        try:
            results.append(Examination(level="ok", check="environment", message=f"{name} {version(name)}"))
        except PackageNotFoundError:
            hint = "install tttkit again with its dependencies"
            results.append(Examination(level="error", check="environment", message=f"{name} is missing", hint=hint))
    results.append(_examine_extension())
    free = shutil.disk_usage(".").free
    results.append(Examination(level="ok", check="disk", message=f"{free / 1e9:,.1f} GB free here"))
    return [*results, *examine_folder(Path(), fix=fix)]


def _examine_extension() -> Examination:
    try:
        importlib.import_module("tttkit._rust")  # loading the extension is the check
    except ImportError as error:
        message = f"the extension cannot be loaded: {error}"
        hint = "install the wheel; in a checkout: make build"
        return Examination(level="error", check="environment", message=message, hint=hint)
    return Examination(level="ok", check="environment", message="the extension loads")
