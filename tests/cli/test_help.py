"""Help: every command has examples, every example is a valid command line, and shells complete."""

from __future__ import annotations

import itertools
import re
import shlex
import shutil
import subprocess
from typing import Any

import pytest
import typer
from rich.markup import render

from tests.cli.conftest import COMMAND, run_process, tttkit
from tttkit_cli.verbs import VERBS, load


def commands(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return every command that is not a group, by the words that call it."""
    nested = getattr(command, "commands", None)
    if nested is None:
        return {path: command}
    leaves = {}
    for name, child in nested.items():
        leaves |= commands(child, (*path, name))
    return leaves


COMMANDS = {path: command for name in VERBS for path, command in commands(load(name), (name,)).items()}


def examples(command: Any) -> list[list[str]]:
    text = " ".join((command.help or "").split())
    return [shlex.split(line)[1:] for line in re.findall(r"`(tttkit [^`]+)`", text[text.find("Example") :])]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_examples_parse(path):
    command = COMMANDS[path]
    own = [arguments for arguments in examples(command) if tuple(arguments[: len(path)]) == path]
    assert own, f"the help of {' '.join(path)} has no example of its own"
    for arguments in own:
        try:
            command.make_context(" ".join(path), list(arguments[len(path) :]), parent=None)
        except typer.BadParameter as error:
            assert "does not exist" in str(error), "the example fails for another reason than missing files"  # noqa: PT017


NOT_HERE = {"train", "bench", "--workers", "--engine", "--loop", "--open", "6400", "mqar"}
"""Words in examples that take minutes, never end, open a browser, or need Ray, a longer text, or a model of another
task."""
RUNNABLE = [
    arguments
    for path, command in COMMANDS.items()
    for arguments in examples(command)
    if tuple(arguments[: len(path)]) == path and not NOT_HERE & set(arguments)
]


@pytest.fixture
def folder_of_the_examples(tmp_path, monkeypatch, finished, tiny_data):
    """A folder with everything that the examples name."""
    for name in ("quick", "ttt", "sw", "transformer", "a", "b"):
        shutil.copytree(finished, tmp_path / "runs" / name)
    shutil.copytree(tiny_data, tmp_path / "data" / "novels")
    (tmp_path / "rates.toml").write_text('[vary]\nmodel = ["ttt-linear", "sw"]\n')
    (tmp_path / "studies" / "rates").mkdir(parents=True)
    (tmp_path / "studies" / "rates" / "study.json").write_text('{"vary": {"model": ["ttt-linear", "sw"]}}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("arguments", RUNNABLE, ids=" ".join)
def test_examples_run(arguments, folder_of_the_examples, tiny_data):
    if "prepare" in arguments:
        shutil.rmtree(folder_of_the_examples / "data")
        shutil.copytree(tiny_data.parent / "text", folder_of_the_examples / "novels")
    result = tttkit(*arguments)
    assert result.code == 0, result.err


def test_most_examples_run():
    assert {arguments[0] for arguments in RUNNABLE} == set(VERBS) - {"train", "bench"}


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_parameter_is_explained(path):
    silent = [parameter.name for parameter in COMMANDS[path].params if not getattr(parameter, "help", None)]
    assert silent == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_paragraphs_fill_the_terminal(path):
    width = 70
    result = run_process(*path, "--help", env={"COLUMNS": str(width)})
    description = result.out[: result.out.index("╭")]
    for paragraph in re.split(r"\n\s*\n", description.strip()):
        lines = [line.strip() for line in paragraph.splitlines()]
        for line, following in itertools.pairwise(lines):
            assert len(f" {line} {following.split()[0]} ") > width, f"{line!r} ends early"


def test_help_ends_quietly_when_its_reader_is_gone():
    script = '"$@" | true; exit "${PIPESTATUS[0]}"'
    done = subprocess.run(["bash", "-c", script, "bash", *COMMAND, "train", "--help"], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_no_word_is_lost_as_markup(path):
    command = COMMANDS[path]
    for text in [command.help, *(getattr(parameter, "help", None) for parameter in command.params)]:
        assert render(text or "").plain == (text or "").replace("\\[", "[")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete(shell):
    result = run_process("--show-completion", shell)
    assert result.code == 0
    assert "tttkit" in result.out


@pytest.mark.parametrize(
    ("words", "completion"),
    [("tttkit st", "status"), ("tttkit status --ch", "--check"), ("tttkit data ins", "inspect")],
)
def test_completes_verbs_and_options(words, completion):
    environment = {
        "_TTTKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    result = run_process(env=environment)
    assert result.code == 0, result.err
    assert result.out.split() == [completion]
