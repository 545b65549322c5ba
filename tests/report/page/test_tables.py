"""Tables of the page: figures with equal digits, dashes for unknown values, settings of our and earlier runs."""

from __future__ import annotations

import re

from tttkit.report.page.model_sections import words_table
from tttkit.report.page.tables import evaluations_table, settings_tables
from tttkit.results.summary import Summary


def cells(table) -> list[tuple[str, str]]:
    return re.findall(r'<td data-value="(.*?)">(.*?)</td>', table)


def test_figures_of_an_evaluation():
    values = {"checkpoint_idx": 3, "step": 1200, "selection_ppl": 382.0, "ttt_ppl_at_2xW": 40.125,
              "sw_ppl_at_2xW": 1234.5, "ratio_at_2xW": 1.0, "ratio_ci_low_at_2xW": 0.98765}  # fmt: skip
    table = evaluations_table([Summary(values)], [1, 2], best=3)
    assert cells(table) == [
        ("3", "3 (best)"), ("1200", "1,200"), ("NaN", "–"), ("382.0", "382.00"), ("NaN", "–"), ("NaN", "–"),
        ("40.125", "40.12"), ("1234.5", "1,234.50"), ("1.0", "1.000"), ("0.98765", "0.988"), ("NaN", "–"),
    ]  # fmt: skip
    heads = re.findall(r'<button type="button">(.*?)</button></th>', table)
    assert heads[-5:] == ["full 2W", "sw 2W", "sw/full 2W", "low 2W", "high 2W"]
    assert 'style="--columns: 11"' in table


def test_settings_are_flat_and_the_command_is_quoted():
    text = settings_tables({"command": ["tttkit", "train", "a b"], "config": {"train": {"window": 64}}})
    assert "<code>tttkit train &#x27;a b&#x27;</code>" in text
    assert "<tr><td>train.window</td><td>64</td></tr>" in text


def test_an_earlier_run_has_its_settings_at_the_top():
    text = settings_tables({"training_window": 64, "eval_steps": [0, 10]})
    assert "<summary>settings</summary>" in text
    assert "<tr><td>training_window</td><td>64</td></tr>" in text
    assert "eval_steps" not in text


def test_a_table_with_many_columns_has_its_intervals_below_the_values():
    assert "<td>0.1<br>[0.0, 0.2]</td>" in words_table(list("abcdefghi"), [["0.1 [0.0, 0.2]"] * 9])
    assert "<td>0.1 [0.0, 0.2]</td>" in words_table(list("abcdefgh"), [["0.1 [0.0, 0.2]"] * 8])
    assert '<th style="white-space:normal;overflow-wrap:normal">a</th>' in words_table(list("abcdefghi"), [["0.1"] * 9])
    assert "<th>a</th>" in words_table(list("abcdefgh"), [["0.1"] * 8])
