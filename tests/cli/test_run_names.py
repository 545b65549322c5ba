"""A run may have any name that a file system takes: every command shows it and works, without a warning."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path

import pytest

from tests.cli.conftest import tttkit

NAMES = ("$\\frac$ 100% {0}", "_hidden|`b`", "[bold]q[red][/]", "小説 новый", "-dash", "<img src=x>", "caf\udce9\n'")


@pytest.fixture(scope="module", params=NAMES)
def named(request, trained, tmp_path_factory):
    """A copy of the finished run with an unusual name, seen from its own folder, as a user would name it."""
    folder = tmp_path_factory.mktemp("names")
    shutil.copytree(trained[0], folder / request.param)
    shutil.copytree(trained[0], folder / "plain")
    before = os.getcwd()
    os.chdir(folder)
    yield f"./{request.param}"
    os.chdir(before)


def works(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = tttkit(*arguments)
    assert result.code == 0, result.err
    return result


def test_every_view_of_a_run_of_any_name(named):
    status = json.loads(works("status", named, "--json").out)
    assert status["run"] == named.removeprefix("./")
    works("doctor", named)
    works("plot", named, "--format", "svg")
    works("report", named)
    page = Path(named, "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "q[red]" in works("status", named).out or "[bold]" not in named


def test_runs_of_any_name_side_by_side(named):
    works("compare", named, "plain")
    works("plot", named, "plain", "--out", "figures")


def test_models_in_a_run_of_any_name(named):
    works("generate", named, "--prompt", "the", "--max-tokens", 2)
    works("eval", "checkpoint", f"{named}/best_model", "plain/final_model", "--out", "evaluations")
    assert works("resume", named, "--max-steps", 7, "--quiet").code == 0
