"""README promises commands and files: each command must be accepted, each file must be there."""

from __future__ import annotations

import random
import re
import shlex
from pathlib import Path

import pytest

from tttkit.config.run import ModelConfig
from tttkit.data import prepare_dataset
from tttkit.models import build_model, save_model
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


def test_library_snippet_runs(tmp_path, monkeypatch, capsys):
    """As it stands, with text of our own and weights that nobody trained where the quick run has its best."""
    monkeypatch.chdir(tmp_path)
    generator = random.Random(0)
    (tmp_path / "novels").mkdir()
    for index in range(12):
        words = ("".join(generator.choices("abcdefghij", k=5)) for _ in range(1000))
        (tmp_path / "novels" / f"{index}.txt").write_text(" ".join(words))
    prepare_dataset(["novels/"], "runs/quick/data", tokenizer="bpe:300", validation_fraction=0.5)
    config = ModelConfig(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    save_model(build_model(config), tmp_path / "runs" / "quick" / "best_model")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.M | re.S)
    exec(compile(snippet, "README.md", "exec"), {})
    perplexity, ratio, low, high = (float(word) for word in capsys.readouterr().out.split())
    assert 1 < perplexity < 10_000
    assert low <= ratio <= high


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = set(re.findall(r"\bmake ([a-z-]+)", README))
    assert named, "README names no make target"
    assert named <= targets


def test_files_and_pictures_exist():
    links = re.findall(r"\]\((?!http|#)([^)]+)\)", README)
    assert links, "README links nothing"
    assert all((ROOT / link).exists() for link in links)
