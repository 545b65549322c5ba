"""Figure of a diagnosis: a legend of the lines that are there, and reasons for those that are not."""

from __future__ import annotations

import numpy as np

from tests.report.made_up import drawn_colours, texts
from tttkit.report.figures import diagnose
from tttkit.report.figures.diagnose import plot_diagnosis
from tttkit.results.diagnose import Diagnosis


def diagnosis(effective=1, layers=0, **band):
    bands = [{"label": m, "first": 1 + 64 * (m - 1), "last": 64 * m, "ppl": 9.0, **band} for m in (1, 2)]
    memory = {"label": 1, "position": 64, "effective": effective, "tokens": [1, 64], "variation": [0.5, 0.0],
              "low": [0.4, 0.0], "high": [0.6, 0.0]}  # fmt: skip
    state = {"positions": [32, 64], "layers": list(range(layers)), "norm": [[1.0, 2.0]] * layers, "over_layers": {}}
    left_out = {"inner_loss": "no inner loss", "key_tokens": "no evaluator was named"}
    if not layers:
        left_out["state"] = "no state"
    values = {"memory": [memory], "perplexity": bands, "left_out": left_out, "state": state if layers else None}
    return Diagnosis({"window": 64, **values})


def test_key_tokens_that_are_not_there_have_no_legend_but_a_reason(tmp_path):
    without = plot_diagnosis(diagnosis(), tmp_path / "a.svg")
    words = texts(without)
    assert "Perplexity of all tokens" in words
    assert "no key tokens: no evaluator was named" in words
    assert "#d55e00" not in drawn_colours(without), "no orange line, not even in the legend"
    words = texts(plot_diagnosis(diagnosis(key_ppl=3.0), tmp_path / "b.svg"))
    assert "Perplexity of all tokens and of key tokens" in words
    assert "key tokens" in words
    assert not any(word.startswith("no key tokens") for word in words)


def test_one_token_decides_and_two_tokens_decide(tmp_path):
    assert "after 1 x W: 1 token decides" in texts(plot_diagnosis(diagnosis(1), tmp_path / "a.svg"))
    assert "after 1 x W: 2 tokens decide" in texts(plot_diagnosis(diagnosis(2), tmp_path / "b.svg"))


def test_of_many_layers_the_first_and_the_last_are_named(tmp_path):
    words = texts(plot_diagnosis(diagnosis(layers=12), tmp_path / "a.svg"))
    assert [word for word in words if word.startswith("layer")] == ["layer 0", "layer 11"]


def test_every_panel_draws_its_own_figures(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        diagnose,
        "draw_interval",
        lambda axes, x, y, bounds, style: drawn.append((x.tolist(), y.tolist(), bounds[0].tolist())),
    )
    values = dict(
        diagnosis(layers=1, ppl_low=8.0, ppl_high=10.0, key_ppl=3.0, key_ppl_low=2.0, key_ppl_high=4.0).values
    )
    over_layers = {
        name: {"mean": [mean, mean], "low": [mean - 1] * 2, "high": [mean + 1] * 2}
        for name, mean in (("before", 7.0), ("after", 5.0))
    }
    values["state"] = {**values["state"], "over_layers": over_layers}
    diagnose.plot_diagnosis(Diagnosis(values), tmp_path / "a.svg")
    assert drawn == [
        ([32.0, 64.0], [7.0, 7.0], [6.0, 6.0]), ([32.0, 64.0], [5.0, 5.0], [4.0, 4.0]),
        ([1.0, 64.0], [0.5, 0.0], [0.4, 0.0]),
        ([32.5, 96.5], [9.0, 9.0], [8.0, 8.0]), ([32.5, 96.5], [3.0, 3.0], [2.0, 2.0]),
    ]  # fmt: skip


def test_the_norm_is_drawn_relative_to_that_at_w_and_the_tolerance_as_a_line():
    from matplotlib.figure import Figure

    state, memory = Figure().subplots(1, 2)
    shown = Diagnosis({**diagnosis(layers=1).values, "tolerance": 0.1})
    diagnose._state(state, shown)
    diagnose._memory(memory, shown)
    assert [0.5, 1.0] in [np.asarray(line.get_ydata()).tolist() for line in state.lines]
    assert [0.1, 0.1] in [np.asarray(line.get_ydata()).tolist() for line in memory.lines]
