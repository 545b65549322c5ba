"""All five variants of the earlier system's results, with what they lack; figures of its real files."""

from __future__ import annotations

import math

import pytest

from tests.analyze.conftest import r1, r3, r5
from tttkit.analyze import earlier_system
from tttkit.errors import DataError, UsageError
from tttkit.results.summary import Summary
from tttkit.run.directory import RunDirectory, find_run


def read(path):
    return [summary.to_dict() for summary in earlier_system.read_summaries(find_run(path))]


def test_labelled_results_with_null_zero_and_float_positions(write):
    entries = r1(3, position=float)
    entries[1] |= {"ttt_ppl_at_5xW": None, "sw_ppl_at_10xW": 0, "training_loss": 0.0}
    del entries[2]["ttt_ppl_at_20xW"]
    first, second, third = read(write("run/all_summaries.json", entries).parent)
    assert first["x_pos_at_1xW"] == 56
    assert isinstance(first["x_pos_at_1xW"], int)
    assert (second["ttt_ppl_at_5xW"], second["sw_ppl_at_10xW"], second["training_loss"]) == (None, None, 0.0)
    assert "improvement_at_5xW" not in second
    assert second["improvement_at_2xW"] == second["sw_ppl_at_2xW"] - second["ttt_ppl_at_2xW"]
    assert third.get("ttt_ppl_at_20xW") is None
    assert {item["aggregate"] for item in (first, second, third)} == {"median"}


def test_means_only_from_a_file_of_any_name(write):
    path = write("results/w32.json", r3())
    write("results/metadata.json", {"training_window": 999, "max_train_steps": 1})  # of another run
    run = find_run(path)
    evaluations = [summary.to_dict() for summary in earlier_system.read_summaries(run)]
    assert [item["step"] for item in evaluations] == [0, 200, 400, 600, 800]
    assert evaluations[0]["training_loss"] is None
    assert evaluations[2]["training_loss"] == 0.0
    assert evaluations[4]["improvement_mean"] == -20.0
    assert (earlier_system.read_metadata(run), run.path) == ({}, path.parent)


def test_an_empty_list_is_an_error(write):
    with pytest.raises(DataError, match=r"w128\.json is an empty list"):
        read(write("w128.json", []))


def test_a_curve_becomes_one_evaluation_labelled_by_center(write):
    folder = write("run/chunk_eval_W64_T1280_K16_S16_final.json", r5()).parent
    (evaluation,) = read(folder)
    assert evaluation["step"] is None
    assert [evaluation[f"x_pos_at_{multiple}xW"] for multiple in (1, 2, 5, 10, 20)] == [56, 120, 312, 632, 1256]
    assert evaluation["ttt_ppl_at_2xW"] == 228.0
    assert "ttt_ppl_at_50xW" not in evaluation
    (curves,) = earlier_system.read_curves(find_run(folder))
    assert math.exp(curves.mean_nll("full")[3]) == pytest.approx(164.0)
    assert (curves.contexts(), curves.window, curves.num_sequences) == (["full", "sw"], 64, 64)


def test_checkpoint_directories_without_a_list(write):
    for index, entry in enumerate(r1(12)):
        path = write(f"run/checkpoint_{index:03d}/summary.json", entry)
    assert [item["checkpoint_idx"] for item in read(path.parents[1])] == list(range(12))


def test_missing_index_step_and_window_come_from_the_plan_or_are_errors(write):
    entries = [{"ttt_ppl_at_1xW": 9.0, "sw_ppl_at_1xW": 9.0} for _ in range(2)]
    write("run/metadata.json", {"eval_steps": [0, 2040], "training_window": 64})
    path = write("run/all_summaries.json", entries)
    assert [item["step"] for item in read(path.parent)] == [0, 2040]
    with pytest.raises(DataError, match="entry 0 has no `training_window`"):
        read(write("bare.json", entries))
    with pytest.raises(DataError, match="entry 0 has no `step`"):
        read(write("bare.json", [{"training_window": 64}]))
    with pytest.raises(DataError, match="holds no results"):
        read(write("bare.json", [3]))


def test_a_later_entry_of_the_same_checkpoint_counts(write):
    entries = [*r1(2), {**r1(2)[1], "ttt_ppl_at_1xW": 7.0}]
    assert read(write("all_summaries.json", entries).parent)[1]["ttt_ppl_at_1xW"] == 7.0


def test_settings_of_args_get_the_names_of_metadata(write):
    path = write("run/args.json", {"window_size": 32, "total_steps": 50, "batch_size": 8, "grad_accum_steps": 2})
    metadata = earlier_system.read_metadata(RunDirectory(path.parent))
    assert (metadata["training_window"], metadata["max_train_steps"]) == (32, 50)
    assert earlier_system.tokens_per_step(metadata) == 512
    assert earlier_system.tokens_per_step({"training_window": 32}) is None


def test_facts_that_are_not_recorded_are_listed(write):
    path = write("run/metadata.json", {"training_window": 64, "start_time": "2025-10-02"})
    missing = " ".join(earlier_system.unknowns(find_run(path.parent), []))
    assert "written at the start only" in missing
    assert "tokens are unknown" in missing
    assert "No interval can be given" in missing


def test_our_own_runs_are_left_as_they_are(write):
    summary = {"schema_version": 1, "step": 5, "training_window": 16, "ttt_ppl_at_1xW": 3.0}
    run = RunDirectory(write("run/all_summaries.json", [summary]).parent)
    assert [item.to_dict() for item in earlier_system.read_summaries(run)] == [summary]
    assert earlier_system.unknowns(run, [Summary(summary)]) == []
    assert earlier_system.read_curves(run) == []


def test_other_files_are_refused(tmp_path):
    for name in ("weights.bin", "all_summaries.txt"):
        (tmp_path / name).touch()
        with pytest.raises(UsageError, match="file of another kind"):
            find_run(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "count", "last"),
    [
        ("length_gen_study_w64_500ckpt", 501, {"1xW": (550, 550), "20xW": (714, 949)}),
        ("length_gen_study_w64_500ckpt_no_sp", 501, {"1xW": (152, 152), "20xW": (346, 231)}),
        ("long_training_wt103", 1, {"10xW": (3234, 4896)}),
    ],
)
def test_real_files(shared, name, count, last):
    evaluations = read(shared / "data" / "legacy_runs" / name)
    assert len(evaluations) == count
    for label, (full, windowed) in last.items():
        assert round(evaluations[-1][f"ttt_ppl_at_{label}"]) == full
        assert round(evaluations[-1][f"sw_ppl_at_{label}"]) == windowed
    if count > 1:
        assert evaluations[-1]["tokens_seen"] == 100_000 * 4 * 4 * 64
