"""Figures from real evaluation files: the same bytes for the same data, one line per evaluation, nothing overlaps."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tests.report.made_up import PNG, W, changed, evaluation_at, line_colours, new_context, texts, write_run
from tttkit.analyze.curves import load_curves
from tttkit.errors import DataError, UsageError
from tttkit.report.figures.position import chunk_eval_name, plot_chunk_eval, plot_evolution
from tttkit.results.contexts import CONTEXTS
from tttkit.results.summary import Summary
from tttkit.run.directory import RunDirectory
from tttkit.storage import files


@pytest.fixture
def make_run(tmp_path):
    return lambda count, **options: write_run(tmp_path / f"run{count}", count, **options)


def brightness(colour: str) -> float:
    red, green, blue = (int(part, 16) for part in re.findall("..", colour[1:]))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("num_evaluations", "suffix"), [(1, "png"), (10, "png"), (50, "png"), (10, "svg")])
def test_evolution_is_drawn_and_the_same_data_give_the_same_bytes(make_run, tmp_path, num_evaluations, suffix):
    run = make_run(num_evaluations)
    one, other = (plot_evolution(load_curves(run), tmp_path / f"{name}.{suffix}") for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    if suffix == "png":
        assert one.read_bytes().startswith(PNG)
    else:
        ElementTree.parse(one)


@pytest.mark.parametrize("suffix", ["png", "svg"])
@pytest.mark.parametrize("exact", [True, False])
def test_chunk_eval_is_drawn_and_the_same_data_give_the_same_bytes(tmp_path, suffix, exact):
    curves = evaluation_at(0.8, exact=exact).curves()
    one, other = (plot_chunk_eval(curves, tmp_path / f"{name}.{suffix}") for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert chunk_eval_name(curves) == "chunk_eval_W64_T1280_K16_S16.png"
    if suffix == "svg":
        words = " ".join(texts(one))
        assert all(f"{context}:" in words for context in ("full", "sw", "sw_aligned", "reset"))
        assert {"1W", "2W", "5W", "10W", "20W"} <= set(texts(one))


def test_other_data_give_another_figure(make_run, tmp_path):
    curves = load_curves(make_run(3))
    one = plot_evolution(curves, tmp_path / "one.png").read_bytes()
    nll = curves[1].mean_nll("full")
    nll[40] += 0.5
    curves[1] = changed(curves[1], full_mean_nll=nll)
    assert plot_evolution(curves, tmp_path / "other.png").read_bytes() != one


@pytest.mark.parametrize("num_evaluations", [2, 20])
def test_a_line_per_evaluation_in_each_panel_from_dark_to_bright(make_run, tmp_path, num_evaluations):
    svg = plot_evolution(load_curves(make_run(num_evaluations, exact=True)), tmp_path / "evolution.svg")
    top, bottom = (line_colours(svg)[start : start + num_evaluations] for start in (0, num_evaluations))
    assert len(line_colours(svg)) == 2 * num_evaluations
    assert top == bottom
    assert len(set(top)) == num_evaluations
    assert [brightness(colour) for colour in top] == sorted(brightness(colour) for colour in top)


def test_sw_aligned_is_a_line_if_sw_was_computed_at_some_positions_only(make_run, tmp_path):
    """Each evaluation still has a line in both panels; the points for sw are filled."""
    svg = plot_evolution(load_curves(make_run(3)), tmp_path / "evolution.svg")
    top, bottom = (line_colours(svg)[start : start + 3] for start in (0, 3))
    assert top == bottom
    assert len(set(top)) == 3


def test_the_texts_of_the_evolution(make_run, tmp_path):
    words = texts(plot_evolution(load_curves(make_run(5, exact=True, apart=25_000)), tmp_path / "evolution.svg"))
    assert {"1W", "2W", "5W", "10W", "20W", "training step", "perplexity", "100,000"} <= set(words)
    assert "TTT: full context from token 0" in words
    assert "SW: same weights, sliding window of 64 tokens" in words
    assert f"position in the sequence (tokens; W = {W}, 4 sequences)" in words
    assert not [word for word in words if "mini-batch" in word]


def test_positions_mode_is_explained(make_run, tmp_path):
    words = texts(plot_evolution(load_curves(make_run(2)), tmp_path / "evolution.svg"))
    assert {"each token's own window", "windows aligned to the inner mini-batch"} <= set(words)


def test_without_inner_mini_batches_there_is_no_line_of_aligned_windows(make_run, tmp_path):
    curves = load_curves(make_run(2))
    same = [changed(item, sw_aligned_mean_nll=item.mean_nll("sw")) for item in curves]
    words = texts(plot_evolution(same, tmp_path / "evolution.svg"))
    assert "each token's own window" in words
    assert "windows aligned to the inner mini-batch" not in words


def test_one_evaluation_needs_no_colour_bar_but_names_its_step(make_run, tmp_path):
    words = texts(plot_evolution(load_curves(make_run(1, model="transformer")), tmp_path / "evolution.svg"))
    assert "training step" not in words
    assert "transformer: full context from token 0, step 0" in words


def test_names_of_marks_that_would_touch_are_left_out(make_run, tmp_path):
    curves = load_curves(make_run(2))
    longest = [changed(item, ends=[5 * end for end in item.ends]) for item in curves]
    words = texts(plot_evolution(longest, tmp_path / "evolution.svg"))
    assert [word for word in words if re.fullmatch(r"\d+W", word)] == ["1W", "10W", "20W", "50W", "100W"]


def test_figures_of_a_hopeless_model_are_drawn(tmp_path):
    evaluation = evaluation_at(0.5)
    wild = {context: values * np.float32(200) for context, values in evaluation.nll.items()}
    hopeless = dataclasses.replace(evaluation, nll=wild, selection_ppl=math.inf)
    curves = hopeless.curves()
    assert plot_chunk_eval(curves, tmp_path / "chunks.png").read_bytes().startswith(PNG)
    assert plot_evolution([curves], tmp_path / "evolution.png").read_bytes().startswith(PNG)


def test_curves_come_in_order_of_step_with_their_files(make_run):
    run = make_run(3)
    Summary.write_all(run.summaries, run.read_summaries()[::-1])
    curves = load_curves(run)
    assert [(item.index, item.step) for item in curves] == [(0, 0), (1, 100), (2, 200)]
    assert curves[1].to_dict() == files.read_json(run.checkpoint(1) / "chunk_eval.json")


def test_labelled_points_stand_in_for_curves_that_are_gone(make_run, tmp_path):
    run = make_run(2)
    (run.checkpoint(0) / "chunk_eval.json").unlink()
    first = load_curves(run)[0]
    assert first.ends == [64, 128, 320, 640, 1280]
    summary = run.read_summaries()[0]
    assert np.exp(first.mean_nll("sw")[2]) == pytest.approx(summary.perplexity("sw", 5))
    assert plot_evolution(load_curves(run), tmp_path / "mixed.png").read_bytes().startswith(PNG)


def test_a_run_without_an_evaluation(tmp_path):
    with pytest.raises(UsageError, match="has no evaluation yet") as caught:
        load_curves(RunDirectory(tmp_path))
    assert caught.value.exit_code == 2


def test_a_damaged_file_is_named(make_run):
    run = make_run(1)
    path = run.checkpoint(0) / "chunk_eval.json"
    curves = files.read_json(path)
    cut = {**curves, "sw_mean_nll": curves["sw_mean_nll"][1:]}
    damaged = ("[]", "{", '{"ends": 3}', '{"ends": []}', json.dumps({**curves, "ends": []}), json.dumps(cut))
    for text in damaged:
        path.write_text(text)
        with pytest.raises(DataError, match=r"checkpoint_000/chunk_eval.json"):
            load_curves(run)


def test_a_new_context_needs_only_its_entry_in_the_table(tmp_path, monkeypatch):
    curves = evaluation_at(0.8).curves()
    before = plot_chunk_eval(curves, tmp_path / "before.svg")
    monkeypatch.setitem(CONTEXTS, "decayed", new_context())
    assert plot_chunk_eval(curves, tmp_path / "without.svg").read_bytes() == before.read_bytes(), "not measured here"
    bounds = {f"decayed_{part}": curves.ratio("reset", part) for part in ("ratio", "ratio_low", "ratio_high")}
    more = changed(curves, decayed_mean_nll=curves.mean_nll("reset"), **bounds)
    after = plot_chunk_eval(more, tmp_path / "after.svg")
    assert "decayed: a state that decays" in texts(after)
    colour = new_context().colour.lower()
    assert after.read_text().count(f"stroke: {colour}") > 2 > before.read_text().count(f"stroke: {colour}")
