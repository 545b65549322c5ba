"""Promise: nothing that happens to the terminal ends a run.

Streams are closed, full, or ASCII only; the terminal is dumb, narrow, resized, or closed; Ctrl-C ends the reader of a
pipe as well. See docs/reliability.md.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios

import pytest

from tests.cli.conftest import COMMAND, start, train_options
from tests.faults.conftest import LONGEST
from tttkit.run.directory import RunDirectory


def shell(script: str, options, **environment) -> int:
    """Run `script` in a shell in which "$@" is the command, and return its exit code."""
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
def test_training_reaches_its_end_with_any_stream(tiny_data, tmp_path, monkeypatch, script, environment):
    monkeypatch.chdir(tmp_path)
    assert shell(script, train_options(tiny_data, tmp_path / "run"), **environment) == 0
    assert RunDirectory(tmp_path / "run").read_metadata()["result"]["reason"] == "finished"


@pytest.fixture
def terminal():
    """Both ends of a terminal; ends that are still open are closed afterwards."""
    ends = list(pty.openpty())
    yield ends
    for end in ends:
        os.close(end)


def _attach() -> None:
    """Make the terminal on stdin the controlling terminal of the process."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _on(terminal, options):
    _, inner = terminal
    return start(
        *options, stdin=inner, stdout=inner, stderr=inner, start_new_session=True, preexec_fn=_attach,
        env={"TERM": "xterm-256color"},
    )  # fmt: skip


@pytest.mark.faults
def test_training_survives_a_terminal_that_is_resized_all_the_time(tiny_data, tmp_path, terminal):
    shown, width = b"", 1
    with _on(terminal, train_options(tiny_data, tmp_path / "run", "--max-steps", 60)) as process:
        os.close(terminal.pop())
        while process.poll() is None:
            fcntl.ioctl(terminal[0], termios.TIOCSWINSZ, struct.pack("HHHH", 1 + width % 50, 1 + width % 200, 0, 0))
            width += 37
            if select.select([terminal[0]], [], [], 0.02)[0]:
                try:
                    shown += os.read(terminal[0], 1 << 16)
                except OSError:  # the other end is closed
                    break
        assert process.wait(LONGEST) == 0, shown[-2000:]
    assert b"\x1b[?25l" in shown, "the live rows were drawn"
    assert RunDirectory(tmp_path / "run").read_metadata()["result"]["reason"] == "finished"


@pytest.mark.faults
def test_training_survives_a_terminal_that_is_closed(tiny_data, tmp_path, terminal):
    """A broken ssh connection looks like this: SIGHUP comes, then every write fails."""
    run = RunDirectory(tmp_path / "run")
    with _on(terminal, train_options(tiny_data, run.path, "--max-steps", 400)) as process:
        os.close(terminal.pop())
        while not run.metrics.exists() and process.poll() is None:
            if select.select([terminal[0]], [], [], 0.02)[0]:
                os.read(terminal[0], 1 << 16)
        os.close(terminal.pop())
        assert process.wait(LONGEST) == 0
    assert run.read_metadata()["result"]["reason"] == "finished"


@pytest.mark.faults
def test_ctrl_c_may_end_the_reader_of_a_pipe_too(tiny_data, tmp_path, terminal):
    """In `tttkit train 2>&1 | tee log`, the terminal and the log still say how to resume."""
    run, (outer, inner), shown = RunDirectory(tmp_path / "run"), terminal, b""
    script = 'trap : INT; { trap : INT; "$@" 2>&1; echo $? >"$0"; } | cat'
    command = ["sh", "-c", script, tmp_path / "code", *COMMAND, *train_options(tiny_data, run.path)]
    options = {"start_new_session": True, "preexec_fn": _attach, "stdin": inner, "stdout": inner, "stderr": inner}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.sys.path)}
    arguments = [*map(str, command), "--max-steps", "100000"]
    with subprocess.Popen(arguments, env=environment, **options) as process:
        while not run.metrics.exists() and process.poll() is None:
            shown += _shown(outer)
        os.write(outer, b"\x03")
        while process.poll() is None:
            shown += _shown(outer)
        shown += _shown(outer)
    assert (tmp_path / "code").read_text() == "75\n", shown.decode()
    told = f"resume with `tttkit resume {run.path}`"
    assert f"hint: {told}".encode() in shown
    assert told in run.training_log.read_text()


def _shown(end) -> bytes:
    return os.read(end, 1 << 16) if select.select([end], [], [], 0.05)[0] else b""
