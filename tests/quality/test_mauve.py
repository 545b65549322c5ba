"""MAUVE tells equal texts from others, offline, from features that are given."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tttkit.quality import mauve


@pytest.mark.skipif(not os.environ.get("TTTKIT_SLOW_TESTS"), reason="the package takes 10 s to import")
def test_equal_distributions_score_higher_than_disjoint_ones_and_nothing_is_printed(capfd):
    pytest.importorskip("mauve")
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 120, 8)).astype(np.float32)
    assert mauve.score(first, second, 0) > 0.7 > 0.2 > mauve.score(first, second + 20, 0)
    assert capfd.readouterr() == ("", "")


def test_it_says_what_it_lacks(monkeypatch):
    monkeypatch.setattr(mauve.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'tttkit[quality]'" in mauve.obstacle(200, has_judge=True)
    monkeypatch.setattr(mauve.importlib.util, "find_spec", lambda name: name)
    assert mauve.FEWEST == 100
    assert mauve.obstacle(200, has_judge=True) is None
    assert "--judge" in mauve.obstacle(200, has_judge=False)
    assert "--num-prompts" in mauve.obstacle(mauve.FEWEST - 1, has_judge=True)
    assert mauve.obstacle(mauve.FEWEST, has_judge=True) is None


def test_output_is_back_after_the_clustering(capfd):
    with pytest.raises(ZeroDivisionError), mauve._silent():
        os.write(2, b"clustering")
        _ = 1 / 0
    os.write(1, b"out")
    os.write(2, b"err")
    assert capfd.readouterr() == ("out", "err")
