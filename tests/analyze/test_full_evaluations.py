"""Evaluations by `tttkit eval` of a run's best weights: `dynamic` and pairs in `compare` and `report`."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.analyze.test_contexts import planted
from tttkit.analyze.compare import compare
from tttkit.analyze.findings import find
from tttkit.analyze.full_evaluations import dynamic_rows, full_evaluations
from tttkit.report.markdown import render
from tttkit.report.page.tables import dynamic_table

STEPS = {"learning_rate": 0.1, "optimizer": "sgd"}


@pytest.fixture
def measured(make_run):
    """`measured(name, gain)` is a run whose best model was evaluated in full, `dynamic` being better by `gain` nats."""

    def build(name, gain):
        record = make_run([100], planted(lambda *_: 0.1), name=name)
        directory = record.path / "eval_best_model"
        shutil.copytree(record.path / "checkpoint_000", directory)
        arrays = load_file(directory / "chunk_nll.safetensors")
        arrays["dynamic"] = arrays["full"] - np.float32(gain)
        save_file(arrays, directory / "chunk_nll.safetensors")
        (summary,) = json.loads((record.path / "all_summaries.json").read_text())
        summary["dynamic"] = STEPS
        for m in (1, 2, 5, 10, 20):
            summary[f"dynamic_ppl_at_{m}xW"] = summary[f"ttt_ppl_at_{m}xW"] * math.exp(-gain)
        (directory / "summary.json").write_text(json.dumps(summary))
        return record

    return build


def test_dynamic_is_shown_with_its_settings_and_ratio(measured, make_run):
    record = measured("one", 0.2)
    (row,) = dynamic_rows(record)
    assert row["weights"] == "best_model"
    assert "rate 0.1" in row["steps"]
    assert float(row["dynamic/full 5xW"].split()[0]) == pytest.approx(math.exp(-0.2), abs=1e-3)
    assert row["dynamic 20xW"] == pytest.approx(row["full 20xW"] * math.exp(-0.2))
    text = render(record, find(record), "finished")
    assert "`dynamic`: the weights learn" in text
    assert "dynamic/full 20xW" in dynamic_table([row])
    plain = make_run([100], planted(lambda *_: 0.1), name="plain")
    assert dynamic_rows(plain) == [] == list(full_evaluations(plain))
    assert "`dynamic`: the weights learn" not in render(plain, find(plain), "finished")
    assert dynamic_table([]) == ""


def test_best_models_are_paired_in_dynamic_too(measured, make_run):
    one, two = measured("one", 0.2), measured("two", 0.3)
    comparison = compare([one, two])
    rows = {(row["run"], row["context"]): row for row in comparison.best_models}
    assert rows["two", "dynamic"]["20xW"].startswith(f"{math.exp(-0.3):.3f}")
    assert rows["one", "dynamic"]["20xW"].endswith("<")
    assert [row["run"] for row in comparison.dynamic] == ["one", "two"]
    assert not any(row["context"] == "dynamic" for row in comparison.paired)
    plain = make_run([100], planted(lambda *_: 0.1), name="plain")
    assert compare([one, plain]).best_models == ()
