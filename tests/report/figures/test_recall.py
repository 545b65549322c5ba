"""Figures of recall: shares from 0 to 1, every line of every model, a legend of what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.report.made_up import drawn_colours, texts
from tttkit.report.figures import recall, recall_text
from tttkit.report.figures.recall import plot_recall
from tttkit.report.figures.style import legend_below, sheet
from tttkit.results.recall import Recall


def answers(sizes=(4, 8), lengths=(64, 128), contexts=("full",), accuracy=0.0):
    rows = [
        {"length": length, "size": size, "context": context, "accuracy": accuracy, "low": 0.0, "high": accuracy}
        for length in lengths for size in sizes for context in contexts
    ]  # fmt: skip
    return Recall({"task": "mqar", "rows": rows})


def questions(lengths, depth=None, parts=("needle", "multi-key")):
    rows = [
        {"part": part, "length": length, "depth": depth} for part in parts for length in lengths[part]
    ]  # fmt: skip
    scores = [[1.0] * len(rows), [2.0] * len(rows)]
    return Recall({"task": "ruler", "rows": rows, "nlls": scores, "found": [[0.0] * len(rows)] * 2})


@pytest.mark.parametrize(("name", "rows"), [("a", 2), ("a-name-{}/best_model", 3), ("long " * 9, 5)])
def test_a_legend_is_no_wider_than_the_figure_which_grows_by_its_rows(name, rows):
    with sheet(3.6) as figure:
        axes = figure.subplots()
        for index in range(5):
            axes.plot([], [], label=name.format(index) + str(index))
        legend_below(figure, [axes])
        FigureCanvasAgg(figure).draw()
        (legend,) = figure.legends
        box = legend.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert len({round(text.get_window_extent().y0) for text in legend.get_texts()}) == rows
        assert axes.get_window_extent().height > 2.5 * figure.dpi


def test_shares_are_drawn_from_0_to_1_even_if_all_are_tiny(tmp_path):
    words = texts(plot_recall([("a", answers(accuracy=0.0002))], tmp_path / "f.svg"))
    assert {"0.0", "1.0", "share of answers given", "tokens of the example"} <= set(words)


def test_each_number_of_items_has_a_panel_and_each_model_and_context_a_line(tmp_path):
    results = [(name, answers(sizes=(4, 8, 16, 32, 64), contexts=("full", "sw"))) for name in ("one", "other")]
    path = plot_recall(results, tmp_path / "f.svg")
    words = texts(path)
    assert [word for word in words if word.endswith("items")] == [f"{size} items" for size in (4, 8, 16, 32, 64)]
    legend = ["one", "one sw", "other", "other sw"]
    assert [word for word in words if word in legend] == legend
    assert len(drawn_colours(path)) == len(legend) * (5 + 1), "a line per panel, and its mark in the legend"


def test_a_model_that_lacks_a_number_of_items_has_no_line_there(tmp_path):
    results = [("one", answers(sizes=(4, 8))), ("other", answers(sizes=(4,)))]
    assert len(drawn_colours(plot_recall(results, tmp_path / "f.svg"))) == 2 + 1 + 2


def test_panels_of_questions_share_their_lengths(tmp_path):
    lengths = {"needle": (64, 128, 256), "multi-key": (256,)}
    words = texts(plot_recall([("a", questions(lengths))], tmp_path / "f.svg"))
    assert words.count("64") == words.count("128") == words.count("256") == 2, "below both columns"


@pytest.mark.parametrize("size", [0, 1])
def test_a_task_without_items_and_one_item_are_named_right(tmp_path, size):
    words = texts(plot_recall([("a", answers(sizes=(size,)))], tmp_path / "f.svg"))
    assert [word for word in words if "item" in word] == (["1 item"] if size else [])


@pytest.fixture
def drawn(monkeypatch):
    """The points of every line that is drawn: x, y, low and high."""
    lines = []
    for module in (recall, recall_text):
        monkeypatch.setattr(
            module,
            "draw_interval",
            lambda axes, x, y, bounds, style: lines.append([each.tolist() for each in (x, y, *bounds)]),
        )
    return lines


def test_the_line_of_second_copy_is_the_drop(tmp_path, drawn):
    row = {"first": 9.0, "second": 7.0, "drop": 2.0, "low": 1.0, "high": 3.0}
    result = Recall({"task": "second-copy", "rows": [{**row, "distance": 0}, {**row, "distance": 64}]})
    plot_recall([("a", result)], tmp_path / "f.svg")
    assert drawn == [[[0.0, 64.0], [2.0, 2.0], [1.0, 1.0], [3.0, 3.0]]]


def test_the_line_of_a_context_is_its_own_accuracy(tmp_path, drawn):
    rows = [
        {"length": length, "size": 4, "context": context, "accuracy": accuracy, "low": accuracy - 0.1,
         "high": accuracy + 0.1, "exact": 0.0}
        for length in (64, 128) for context, accuracy in (("full", 0.5), ("sw", 0.25))
    ]  # fmt: skip
    plot_recall([("a", Recall({"task": "mqar", "rows": rows}))], tmp_path / "f.svg")
    assert drawn == [
        [[64.0, 128.0], *([mean + off] * 2 for off in (0.0, -0.1, 0.1))] for mean in (0.5, 0.25)
    ]  # fmt: skip


def test_the_lines_of_pass_keys_are_means_over_depths_and_over_lengths(tmp_path, drawn):
    rows = [{"part": "passkey", "length": length, "depth": depth} for length in (64, 128) for depth in (0.0, 1.0)]
    found = [[0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    result = Recall({"task": "passkey", "rows": rows, "nlls": [[1.0, 2.0, 3.0, 4.0]] * 2, "found": found})
    plot_recall([("a", result)], tmp_path / "f.svg")
    assert [line[:2] for line in drawn] == [
        [[64.0, 128.0], [1.5, 3.5]], [[64.0, 128.0], [0.25, 0.25]], [[0.0, 1.0], [2.0, 3.0]],
        [[0.0, 1.0], [0.25, 0.25]],
    ]  # fmt: skip


def test_the_column_of_a_question_has_its_own_figures(tmp_path, drawn):
    rows = [{"part": part, "length": 64, "depth": None} for part in ("needle", "multi-key")]
    result = Recall({"task": "ruler", "rows": rows, "nlls": [[1.0, 3.0]] * 2, "found": [[0.0, 1.0]] * 2})
    plot_recall([("a", result)], tmp_path / "f.svg")
    assert np.ravel([line[1] for line in drawn]).tolist() == [1.0, 0.0, 3.0, 1.0]
