"""README promises commands and files: each command must be accepted, each file must be there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tttkit_cli.verbs import VERBS, load

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (tttkit .*)$", README, flags=re.M)


def test_readme_shows_every_verb():
    verbs = {shlex.split(command)[1] for command in COMMANDS}
    assert verbs >= set(VERBS)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_parses(command):
    arguments = shlex.split(command)[1:]
    group = load(arguments.pop(0))
    while arguments and arguments[0] in getattr(group, "commands", {}):
        group = group.commands[arguments.pop(0)]
    group.make_context("tttkit", arguments)


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert named, "README names no make target"
    assert named <= targets


def test_files_and_pictures_exist():
    links = re.findall(r"\]\((?!http|#)([^)]+)\)", README)
    assert links, "README links nothing"
    assert all((ROOT / link).exists() for link in links)
