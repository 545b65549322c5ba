"""D3: no state of the terminal ends a run."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.cli.conftest import COMMAND, train_options
from tttkit.rundir import RunDirectory


def shell(script: str, options, **environment) -> int:
    """Run `script` in a shell that knows the command as "$@"; returns its exit code."""
    command = ["sh", "-c", script, "sh", *COMMAND, *(str(option) for option in options)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join(os.sys.path), **environment}, timeout=120,
        stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    return done.returncode


@pytest.mark.faults
@pytest.mark.parametrize(
    ("script", "environment"),
    [
        ('"$@" >&-', {}),
        ('"$@" 2>&-', {}),
        ('"$@" >&- 2>&- <&-', {}),
        ('"$@" --json >/dev/full', {}),
        ('"$@" 2>/dev/full', {}),
        ('{ "$@" --json; echo $? >code; } | head -1; exit $(cat code)', {}),
        ('{ "$@" 2>&1; echo $? >code; } | head -1; exit $(cat code)', {}),
        ('"$@"', {"PYTHONIOENCODING": "ascii"}),
        ('"$@"', {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ('"$@"', {"TERM": "dumb"}),
        ('"$@"', {"COLUMNS": "1", "LINES": "1"}),
        ('"$@"', {"FORCE_COLOR": "1"}),
        ('"$@" --quiet', {"NO_COLOR": "1"}),
        ('nohup "$@"', {}),
    ],
)
def test_d3_training_reaches_its_end(tiny_data, tmp_path, monkeypatch, script, environment):
    monkeypatch.chdir(tmp_path)
    assert shell(script, train_options(tiny_data, tmp_path / "run"), **environment) == 0
    assert RunDirectory(tmp_path / "run").read_metadata()["result"]["reason"] == "finished"
