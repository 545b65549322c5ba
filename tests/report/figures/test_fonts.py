"""Names of runs in figures: every name is drawn without a warning, and as text."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pytest
from matplotlib.text import Text

from tttkit.report.figures import fonts
from tttkit.report.figures.style import label_ends, save, sheet

NAMES = ("a$b$c", r"$\frac$", "x$", "_hidden", "a^2_{i", "100%", "{0}", "[bold]", "tab\there", "caf\udce9", "小説", "é")


def drawn(name, path):
    with sheet(2.0) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1])
        label_ends(axes, [(0.5, name, "black")])
        axes.set_title(name)
        save(figure, path)
        return axes.get_title(loc="left"), figure


@pytest.mark.parametrize("kind", ["png", "svg"])
@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_drawn(name, kind, tmp_path):
    path = tmp_path / f"figure.{kind}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(name, path)
    assert path.stat().st_size > 1000


def test_characters_that_no_font_has_are_escaped(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "_family_with", lambda characters: None)
    assert drawn("a小\udce9\t\x00é", tmp_path / "figure.svg")[0] == r"a\u5c0f\udce9\t\x00é"


def test_a_font_that_has_the_characters_draws_them(tmp_path, monkeypatch):
    """Any other installed font stands in for one with the characters."""
    monkeypatch.setattr(fonts, "_family_with", lambda characters: "DejaVu Serif" if "小" in characters else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        title, figure = drawn("a小\udce9", tmp_path / "figure.png")
    assert title == r"a小\udce9"
    families = [text.get_fontfamily() for text in figure.findobj(Text) if text.get_text() == title]
    assert families
    assert all(family[-1] == "DejaVu Serif" for family in families)


def test_an_installed_font_is_found_by_its_characters():
    assert fonts._family_with(frozenset()) is None
    assert fonts._family_with(frozenset("\U0010ffff")) is None
    assert fonts._family_with(frozenset("abc")) is not None


def test_matplotlib_says_nothing_about_its_cache_and_settings(tmp_path):
    (tmp_path / "matplotlibrc").write_text("backend: nonsense\n")
    environment = {
        **os.environ,
        "HOME": "/nonexistent",
        "XDG_CACHE_HOME": "/proc/none",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-c", "import tttkit.report.figures.style"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert result.stderr == ""
