"""Help: every command has examples, every example is a command line that parses; shells complete."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer

from tests.cli.conftest import run_process
from tttkit_cli.verbs import VERBS, load


def commands(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command that does something, by the words that call it."""
    nested = getattr(command, "commands", None)
    if nested is None:
        return {path: command}
    found = {}
    for name, child in nested.items():
        found |= commands(child, (*path, name))
    return found


COMMANDS = {path: command for name in VERBS for path, command in commands(load(name), (name,)).items()}


def examples(command: Any) -> list[list[str]]:
    text = " ".join((command.help or "").split())
    return [shlex.split(found)[1:] for found in re.findall(r"`(tttkit [^`]+)`", text[text.find("Example") :])]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_examples_parse(path):
    command = COMMANDS[path]
    found = [arguments for arguments in examples(command) if tuple(arguments[: len(path)]) == path]
    assert found, f"the help of {' '.join(path)} has no example of its own"
    for arguments in found:
        try:
            command.make_context(" ".join(path), list(arguments[len(path) :]), parent=None)
        except typer.BadParameter as error:
            assert "does not exist" in str(error), "wrong for another reason than that its files are not here"  # noqa: PT017


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_parameter_is_explained(path):
    silent = [parameter.name for parameter in COMMANDS[path].params if not getattr(parameter, "help", None)]
    assert silent == []


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
