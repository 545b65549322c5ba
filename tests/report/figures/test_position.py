"""Figures from real checkpoint files: the same bytes for the same data, one line per checkpoint, nothing overlaps."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tttkit.config.run import EvaluationConfig
from tttkit.errors import DataError, UsageError
from tttkit.evaluate import Evaluation
from tttkit.evaluate.evaluation import write_evaluation
from tttkit.report.curves import load_curves
from tttkit.report.figures.draw import draw_run
from tttkit.report.figures.inner import plot_inner_loss
from tttkit.report.figures.position import chunk_eval_name, plot_chunk_eval, plot_evolution
from tttkit.report.figures.ratio import plot_ratio_by_position
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

W, T = 64, 1280
PNG = b"\x89PNG\r\n\x1a\n"


def evaluation_at(share: float, *, exact: bool = False, num_sequences: int = 4) -> Evaluation:
    """Made-up NLL of a model that has done `share` of its training: falls with training, rises far beyond W."""
    generator = np.random.default_rng(round(1000 * share))
    position = np.arange(T)
    level = math.log(57_000) * (1 - share) ** 8 + math.log(45) * (1 - (1 - share) ** 8)
    noise = generator.normal(0, 0.3, (num_sequences, T))
    nll = {"full": level + 0.2 * share * np.log2(1 + position / W) + noise}
    for context, gap in (("reset", 0.03), ("sw_aligned", 0.0), ("sw", 0.05)):
        beyond = level + gap + noise + generator.normal(0, 0.05, noise.shape)
        nll[context] = np.where(position < W, nll["full"], beyond)
    if not exact:
        labelled = [position // 16 == m * W // 16 - 1 for m in (1, 2, 5, 10, 20)]
        nll["sw"][:, ~(np.any(labelled, axis=0) | (position < W))] = np.nan
    protocol = EvaluationConfig(
        max_length=T, num_sequences=num_sequences, num_resamples=100, sw_mode="exact" if exact else "positions"
    )
    arrays = {context: values.astype(np.float32) for context, values in nll.items()}
    return Evaluation(
        protocol=protocol, window=W, nll=arrays, selection_ppl=math.exp(level), selection_windows=9,
        starts=(T + 1) * np.arange(4),
        documents=np.arange(4),
    )  # fmt: skip


@pytest.fixture
def make_run(tmp_path):
    def make(num_checkpoints, *, exact=False, model="ttt-linear"):
        run = RunDirectory(tmp_path / f"run{num_checkpoints}")
        summaries = []
        for index in range(num_checkpoints):
            share = index / max(1, num_checkpoints - 1)
            extra = {"checkpoint_idx": index, "step": round(100_000 * share), "model": model}
            evaluation = evaluation_at(share, exact=exact)
            summaries.append(write_evaluation(run.checkpoint(index), evaluation, extra))
        files.write_json(run.summaries, summaries)
        return run

    return make


def texts(svg) -> list[str]:
    """What is written in an SVG; matplotlib draws letters as paths and leaves each text beside them as a comment."""
    return [text.replace("\u200a", "") for text in re.findall(r"<!-- (.*?) -->", svg.read_text())]


def line_colours(svg) -> list[str]:
    """Colour of every data line in the order they were drawn; axes, grid and marks are grey."""
    strokes = re.findall(r"fill: none; stroke: (#[0-9a-f]{6})", svg.read_text())
    return [stroke for stroke in strokes if len(set(re.findall("..", stroke[1:]))) > 1]


def brightness(colour: str) -> float:
    red, green, blue = (int(part, 16) for part in re.findall("..", colour[1:]))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("num_checkpoints", "suffix"), [(1, "png"), (10, "png"), (50, "png"), (10, "svg")])
def test_evolution_is_drawn_and_the_same_data_give_the_same_bytes(make_run, tmp_path, num_checkpoints, suffix):
    run = make_run(num_checkpoints)
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
    curves[1]["full_mean_nll"][40] += 0.5
    assert plot_evolution(curves, tmp_path / "other.png").read_bytes() != one


@pytest.mark.parametrize("num_checkpoints", [2, 20])
def test_a_line_per_checkpoint_in_each_panel_from_dark_to_bright(make_run, tmp_path, num_checkpoints):
    svg = plot_evolution(load_curves(make_run(num_checkpoints, exact=True)), tmp_path / "evolution.svg")
    top, bottom = (line_colours(svg)[start : start + num_checkpoints] for start in (0, num_checkpoints))
    assert len(line_colours(svg)) == 2 * num_checkpoints
    assert top == bottom
    assert len(set(top)) == num_checkpoints
    assert [brightness(colour) for colour in top] == sorted(brightness(colour) for colour in top)


def test_aligned_windows_are_a_line_where_a_window_of_its_own_is_computed_at_positions_only(make_run, tmp_path):
    """Each checkpoint has its line in both panels there too; the points beside it are filled."""
    svg = plot_evolution(load_curves(make_run(3)), tmp_path / "evolution.svg")
    top, bottom = (line_colours(svg)[start : start + 3] for start in (0, 3))
    assert top == bottom
    assert len(set(top)) == 3


def test_what_the_evolution_says(make_run, tmp_path):
    words = texts(plot_evolution(load_curves(make_run(4, exact=True)), tmp_path / "evolution.svg"))
    assert {"1W", "2W", "5W", "10W", "20W", "training step", "perplexity", "100,000"} <= set(words)
    assert "TTT: full context from token 0" in words
    assert "SW: same weights, sliding window of 64 tokens" in words
    assert f"position in the sequence (tokens; W = {W}, 4 sequences)" in words
    assert not [word for word in words if "mini-batch" in word]


def test_positions_mode_is_explained(make_run, tmp_path):
    words = texts(plot_evolution(load_curves(make_run(2)), tmp_path / "evolution.svg"))
    assert {"each token's own window", "windows aligned to the inner mini-batch"} <= set(words)


def test_one_checkpoint_needs_no_colour_bar_but_names_its_step(make_run, tmp_path):
    words = texts(plot_evolution(load_curves(make_run(1, model="transformer")), tmp_path / "evolution.svg"))
    assert "training step" not in words
    assert "transformer: full context from token 0, step 0" in words


def test_names_of_marks_that_would_touch_are_left_out(make_run, tmp_path):
    curves = load_curves(make_run(2))
    longest = [{**item, "ends": [5 * end for end in item["ends"]]} for item in curves]
    words = texts(plot_evolution(longest, tmp_path / "evolution.svg"))
    assert [word for word in words if re.fullmatch(r"\d+W", word)] == ["1W", "10W", "20W", "50W", "100W"]


def test_figures_of_a_hopeless_model_are_drawn(tmp_path):
    evaluation = evaluation_at(0.5)
    wild = {context: values * np.float32(200) for context, values in evaluation.nll.items()}
    hopeless = dataclasses.replace(evaluation, nll=wild, selection_ppl=math.inf)
    curves = hopeless.curves()
    assert plot_chunk_eval(curves, tmp_path / "chunks.png").read_bytes().startswith(PNG)
    assert plot_evolution([{**curves, "step": 0}], tmp_path / "evolution.png").read_bytes().startswith(PNG)


def test_curves_come_in_order_of_step_with_their_files(make_run):
    run = make_run(3)
    files.write_json(run.summaries, run.read_summaries()[::-1])
    curves = load_curves(run)
    assert [item["step"] for item in curves] == [0, 50_000, 100_000]
    stored = files.read_json(run.checkpoint(1) / "chunk_eval.json")
    assert {key: curves[1][key] for key in stored} == stored


def test_labelled_points_stand_in_for_curves_that_are_gone(make_run, tmp_path):
    run = make_run(2)
    (run.checkpoint(0) / "chunk_eval.json").unlink()
    first = load_curves(run)[0]
    assert first["ends"] == [64, 128, 320, 640, 1280]
    summary = run.read_summaries()[0]
    assert np.exp(first["sw_mean_nll"][2]) == pytest.approx(summary["sw_ppl_at_5xW"])
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


def test_the_ratio_by_position_begins_at_the_window(make_run, tmp_path):
    """Up to W all contexts are equal by construction: what stands there is not drawn, what follows is."""
    curves = load_curves(make_run(1, exact=True))[-1]

    def drawn(name, first, last):
        ratios = [first if end < 64 else last if end == curves["ends"][-1] else 1.0 for end in curves["ends"]]
        return plot_ratio_by_position({**curves, "reset_ratio": ratios}, tmp_path / f"{name}.svg").read_bytes()

    assert drawn("one", 1.0, 1.0) == drawn("within", 9.0, 1.0)
    assert drawn("one", 1.0, 1.0) != drawn("beyond", 1.0, 9.0)


def inner_records(steps, length=48):
    """Made-up inner losses: each mini-batch of 16 starts from what the ones before learned."""
    records = []
    for step in steps:
        before = 0.5 * (1 + np.arange(length) // 16) ** -0.5
        after = before / (1 + 0.01 * step)
        records.append({"step": step, "inner_loss_before": before.tolist(), "inner_loss_after": after.tolist()})
    return records


@pytest.mark.parametrize("steps", [[100], range(100, 5001, 100)])
def test_inner_loss_has_a_line_per_record_and_equal_bytes(tmp_path, steps):
    metrics = [{"step": 1, "loss": 3.0}, *inner_records(steps)]  # most steps are logged without the inner loss
    one, other = (plot_inner_loss(metrics, tmp_path / f"{name}.svg", mini_batch=16) for name in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()
    assert len(line_colours(one)) == 2 + len(steps), "after and its legend, a gain per record; before is dashed"
    words = texts(one)
    assert f"Mean inner loss ½|f(k) − v|² at step {max(steps):,}" in words
    assert "position in the window (tokens; dotted: inner mini-batches of 16)" in words
    assert ("training step" in words) == (len(steps) > 1)


def test_gain_is_the_share_that_learning_takes_off(tmp_path):
    """One half of the loss is taken off everywhere: the axis of the gain ends there."""
    record = {"step": 100, "inner_loss_before": [2.0, 4.0, "NaN", 0.0], "inner_loss_after": [1.0, 2.0, 1.0, 0.0]}
    words = texts(plot_inner_loss([record], tmp_path / "inner.svg"))
    assert {"0 %", "50 %"} <= set(words)
    assert "60 %" not in words


def test_a_model_without_an_inner_loop_has_no_such_figure(tmp_path):
    assert plot_inner_loss([{"step": 100, "loss": 3.0}], tmp_path / "inner.png") is None


def test_the_earlier_systems_run_of_501_checkpoints(shared, tmp_path):
    run = RunDirectory(shared / "data" / "legacy_runs" / "length_gen_study_w64_500ckpt_no_sp")
    assert len(load_curves(run)) == 501
    drawn = {path.stem: path for path in draw_run(run, tmp_path, ["svg"])}
    assert set(drawn) == {"curriculum_length_gen_evolution", "ratio_by_position", "ratio_by_step", "ratio_map"}
    assert {"1W", "2W", "5W", "10W", "20W"} <= set(texts(drawn["ratio_map"]))
    title = "Ratio over training at each position, means of 10 evaluations"
    assert title in texts(drawn["ratio_by_step"]), "without intervals: it kept none"
