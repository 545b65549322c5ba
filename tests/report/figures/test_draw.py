"""All figures of a run that its files allow."""

from __future__ import annotations

from tests.report.made_up import texts
from tttkit.analyze.curves import load_curves
from tttkit.report.figures.draw import draw_run
from tttkit.run.directory import RunDirectory


def test_the_earlier_systems_run_of_501_checkpoints(shared, tmp_path):
    run = RunDirectory(shared / "data" / "legacy_runs" / "length_gen_study_w64_500ckpt_no_sp")
    assert len(load_curves(run)) == 501
    drawn = {path.stem: path for path in draw_run(run, tmp_path, ["svg"])}
    assert set(drawn) == {"curriculum_length_gen_evolution", "ratio_by_position", "ratio_by_step", "ratio_map"}
    assert {"1W", "2W", "5W", "10W", "20W"} <= set(texts(drawn["ratio_map"]))
    title = "Ratio over training at each position, means of 10 evaluations"
    assert title in texts(drawn["ratio_by_step"]), "the earlier system kept no intervals"
