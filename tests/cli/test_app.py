"""Common behavior of all commands: help, versions, errors in one line, signals."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

import tttkit as library
from tests.cli.conftest import run_process, start, tttkit, wait_until


@pytest.mark.parametrize("arguments", [[], ["-h"]])
def test_help_names_every_verb(arguments):
    result = run_process(*arguments)
    assert result.code == 0
    assert result.err == ""
    assert all(verb in result.out for verb in ("train", "status", "eval", "plot", "data"))


def test_version():
    assert tttkit("--version").out == f"tttkit {library.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train", "--max-stepz", "3"], "--max-steps"),
        (["train", "--window", "abc"], "valid integer"),
        (["data"], "Missing command"),
        (["data", "prepare"], "SOURCE"),
        (["data", "prepare", "x", "--tokenizer", "gpt2"], "--out"),
        (["eval", "checkpoint"], "PATH"),
    ],
)
def test_wrong_usage_is_exit_2(arguments, message):
    result = tttkit(*arguments)
    assert result.code == 2
    assert message in result.error
    assert result.out == ""


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback_at_any_place(place):
    arguments = ["status", "nowhere"]
    assert "Traceback" not in tttkit(*arguments).err
    arguments.insert(place, "--debug")
    result = tttkit(*arguments)
    assert result.code == 2
    assert result.err.startswith("Traceback (most recent call last)")
    assert "error: no such run directory: nowhere" in result.err


def test_a_missing_package_is_named():
    script = "import sys; sys.modules['torch'] = None; from tttkit_cli.app import _run; sys.exit(_run(sys.argv[1:]))"
    result = subprocess.run([sys.executable, "-c", script, "train"], capture_output=True, text=True)
    assert result.returncode == 1
    assert "error: cannot load torch" in result.stderr
    assert "Traceback" not in result.stderr


def test_names_are_printed_as_they_are(tmp_path):
    """A path may look like markup or like an emoji of the console."""
    for name in ("[bold]run[/]", "[/nothing]", ":cat:"):
        assert f"no such run directory: {tmp_path / name}" in tttkit("status", tmp_path / name).error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_preparation_in_order(tmp_path, tokenizer_file, number):
    """It waits for more of stdin, so the signal arrives during preparation. Unfinished files are removed."""
    data = tmp_path / "data"
    options = ["--tokenizer", tokenizer_file, "--out", data]
    with start("data", "prepare", "-", *options, stdin=subprocess.PIPE) as process:
        process.stdin.write("some words of text\n" * 3_000)  # enough to recognize what it is
        process.stdin.flush()
        wait_until(lambda: (data / "tokenizer.json").exists() or any(data.glob(".tmp-*")), process)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 75, err
    assert "Traceback" not in err
    assert not data.exists()


@pytest.fixture
def tokenizer_file(tiny_data):
    return tiny_data / "tokenizer.json"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_place_without_permission_to_write_is_a_mistake_of_the_user_with_a_hint(monkeypatch, number):
    from tttkit_cli import app

    error = OSError(number, os.strerror(number), "runs/r/run.lock")
    assert app._exit_code(error) == 2
    monkeypatch.setattr(app.os, "access", lambda *_: False)
    message, hint = app._describe(error)
    assert message.endswith(": runs/r/run.lock")
    assert "--out" in hint
    monkeypatch.setattr(app.os, "access", lambda *_: True)
    assert app._describe(error)[1] is None


def test_a_file_that_may_not_be_read_gets_a_hint_about_reading(tmp_path, monkeypatch):
    from tttkit_cli import app

    (tmp_path / "metadata.json").touch()
    monkeypatch.setattr(app.os, "access", lambda *_: False)
    hint = app._describe(PermissionError(errno.EACCES, "denied", str(tmp_path / "metadata.json")))[1]
    assert "may not read" in hint
    assert "--out" not in hint


def test_a_current_directory_that_was_deleted_is_a_mistake_of_the_user(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    result = tttkit("generate", "/model", "--prompt", "a")
    assert result.code == 2
    assert result.error == "error: the current directory was deleted hint: change to another one with cd"
