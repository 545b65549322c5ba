"""The documents promise commands, files and a library: each command must run, each link must lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tests.cli.conftest import tttkit
from tttkit.config.model import ModelConfig
from tttkit.data import prepare_dataset
from tttkit.models import build_model, save_model
from tttkit.run.directory import RunDirectory
from tttkit_cli.verbs import VERBS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted(ROOT.glob("[AC]*.md")), *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = {path: re.findall(r"^\$ (tttkit .*)$", path.read_text(), flags=re.M) for path in DOCUMENTS}
SMALL = {
    "MODEL__HIDDEN_SIZE": "16", "MODEL__INTERMEDIATE_SIZE": "32", "MODEL__NUM_HIDDEN_LAYERS": "1",
    "MODEL__NUM_ATTENTION_HEADS": "2", "DATA__SOURCE": "novels/train", "DATA__TOKENIZER": "bpe:300",
    "DATA__VALIDATION_FRACTION": "0.3", "TRAIN__MAX_STEPS": "4", "TRAIN__BATCH_SIZE": "2", "TRAIN__NUM_THREADS": "1",
    "TRAIN__SAVE_EVERY": "2", "TRAIN__LOG_EVERY": "1", "TRAIN__INNER_LOSS_EVERY": "2",
    "EVALUATION__NUM_CHECKPOINTS": "3", "EVALUATION__NUM_SEQUENCES": "4", "EVALUATION__SELECTION_WINDOWS": "16",
    "EVALUATION__NUM_RESAMPLES": "200",
}  # fmt: skip
"""Variables that make every run of the documents take a second; flags that a document shows still win."""


def write_text(folder: Path, num_files: int) -> None:
    """Write files of made-up words, about 9,000 tokens each."""
    generator = random.Random(folder.name)
    folder.mkdir(parents=True)
    words = ["".join(generator.choices("abcdefghij", k=generator.randint(2, 7))) for _ in range(200)]
    for index in range(num_files):
        (folder / f"{index:02d}.txt").write_text(" ".join(generator.choice(words) for _ in range(3000)))


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """Make a folder with what the documents assume, novels and a tokenizer called gpt2, and change into it."""
    write_text(tmp_path / "novels" / "train", 8)
    write_text(tmp_path / "novels" / "validation", 4)
    prepare_dataset(
        [str(tmp_path / "novels" / "train")], tmp_path / "made", tokenizer="bpe:300", validation_fraction=0.3
    )
    (study,) = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "guide.md").read_text(), flags=re.M | re.S)
    (tmp_path / "rates.toml").write_text(study)
    (tmp_path / "gpt2").mkdir()
    shutil.copy(tmp_path / "made" / "tokenizer.json", tmp_path / "gpt2" / "tokenizer.json")
    monkeypatch.chdir(tmp_path)
    for name, value in SMALL.items():
        monkeypatch.setenv(f"TTTKIT_SET_{name}", value)
    return tmp_path


def run(command: str) -> None:
    """Run a command. If it needs a run that no earlier command made, train that run first."""
    for name in re.findall(r"(?<!--out )\bruns/[a-z-]+", command):
        if not Path(name).exists():
            assert tttkit("train", "--out", name).code == 0
    result = tttkit(*shlex.split(command)[1:])
    assert result.code == 0, f"{command}\n{result.err}"


def interrupt(_seconds: float) -> None:
    """Stand in for Ctrl-C while a loop waits."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("document", [path for path in DOCUMENTS if SHOWN[path]], ids=lambda path: path.name)
def test_every_command_shown_runs(document, workspace, monkeypatch):
    for command in SHOWN[document]:
        with monkeypatch.context() as patch:
            if "--loop" in command:
                patch.setattr("time.sleep", interrupt)
            run(command)


def test_the_guide_shows_every_verb():
    verbs = {shlex.split(command)[1] for command in SHOWN[ROOT / "docs" / "guide.md"]}
    assert verbs >= set(VERBS)


def test_library_snippet_runs(tmp_path, monkeypatch, capsys):
    """Run the snippet unchanged, on our own text and with untrained weights as the best model of the quick run."""
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "novels", 12)
    prepare_dataset(["novels/"], "runs/quick/data", tokenizer="bpe:300", validation_fraction=0.5)
    config = ModelConfig(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    save_model(build_model(config), tmp_path / "runs" / "quick" / "best_model")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.M | re.S)
    exec(compile(snippet, "README.md", "exec"), {})
    perplexity, ratio, low, high = (float(word) for word in capsys.readouterr().out.split())
    assert 1 < perplexity < 10_000
    assert low <= ratio <= high


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    named = {name for path in DOCUMENTS for name in re.findall(r"\bmake ([a-z]+(?:-[a-z]+)?)\b", path.read_text())}
    assert {"quickstart", "test"} <= named
    assert named & targets >= {"quickstart", "test", "setup", "format", "all", "bench"}
    shown = {line.split()[1] for path in DOCUMENTS for line in re.findall(r"^make \S+", path.read_text(), flags=re.M)}
    assert shown <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\((?!http|#)([^)#]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_source_files_named_exist(document):
    """Check paths in backquotes that begin with a folder of the repository."""
    named = re.findall(r"`((?:python|cli|tests|rust|benchmarks|docs)/[\w./-]+)`", document.read_text())
    places = [path for path in named if not (ROOT / path).exists() and "NAME" not in path]
    assert places == []


def test_documents_contain_no_path_of_this_machine():
    home = os.path.expanduser("~")
    assert [path.name for path in DOCUMENTS if len(home) > 1 and home in path.read_text()] == []


def script_of_documents(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figure_of_results_is_current(tmp_path, monkeypatch):
    script_of_documents("make_results_figure", monkeypatch).draw(tmp_path)
    drawn, committed = (folder / "length-generalization.png" for folder in (tmp_path, ROOT / "docs"))
    assert np.abs(imread(drawn) - imread(committed)).mean() < 0.01, "python docs/make_results_figure.py"


def test_the_tables_of_results_are_current(monkeypatch):
    script = script_of_documents("make_results_tables", monkeypatch)
    stale = [page for page in script.PAGES if script.updated(page) != (ROOT / "docs" / page).read_text()]
    assert stale == [], "python docs/make_results_tables.py"


def test_the_pictures_can_be_made_from_a_run(tmp_path, monkeypatch):
    run = RunDirectory(ROOT / "tests" / "golden" / "run_0_1_0")
    script_of_documents("make_pictures", monkeypatch).draw(run, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"evolution.png", "ratio.png", "status.svg"}
    assert "finished" in (tmp_path / "status.svg").read_text()
