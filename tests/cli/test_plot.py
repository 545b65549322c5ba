"""`tttkit plot`: which files come from which runs, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, run_process, tttkit

RATIOS = {"ratio_by_position", "ratio_by_step", "ratio_map"}
NAMES = RATIOS | {"curriculum_length_gen_evolution", "training_loss", "inner_loss"}


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the finished run, for tests that write figures into it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_figures_are_written_into_the_run(run):
    result = tttkit("plot", run)
    assert result.code == 0
    written = [Path(line) for line in result.out.splitlines()]
    assert {path.stem for path in written} == NAMES
    assert all(path.parent == run and path.read_bytes().startswith(b"\x89PNG") for path in written)
    assert result.err == ""


def test_formats_target_and_repeatable_bytes(finished, tmp_path):
    first = json.loads(tttkit("plot", finished, "--format", "png,svg", "-o", tmp_path / "a", "--json").out)["written"]
    second = json.loads(tttkit("plot", finished, "--format", "svg, png", "-o", tmp_path / "b", "--json").out)["written"]
    assert {Path(path).name for path in first} == {f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")}
    for path in first:
        assert (tmp_path / "b" / Path(path).name).read_bytes() == Path(path).read_bytes()
    assert len(first) == len(second)


def test_several_runs_are_compared(finished, run, tmp_path):
    result = tttkit("plot", finished, run, "-o", tmp_path / "figures")
    assert result.code == 0
    assert (tmp_path / "figures" / "comparison.png").exists()
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"comparison.png", finished.name, "run"}


def test_the_newest_run_and_the_earlier_name(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(finished.parent.parent)
    assert "runs/small" not in tttkit("plot", "-o", tmp_path / "a").out
    assert (tmp_path / "a" / "ratio_map.png").exists()
    assert tttkit("plot", "--curriculum_dir", finished, "-o", tmp_path / "b").code == 0


def test_one_page_with_the_other_runs_in_it(finished, run, tmp_path):
    written = json.loads(tttkit("plot", finished, run, "--format", "html", "-o", tmp_path / "a", "--json").out)[
        "written"
    ]
    assert [Path(path).relative_to(tmp_path / "a") for path in written] == [
        Path(finished.name, "report.html"), Path("run", "report.html"),
    ]  # fmt: skip
    assert '"baselines":[{"name":"run"' in Path(written[0]).read_text()
    alone = tttkit("plot", run, "--format", "html,svg")
    assert alone.code == 0
    assert (run / "report.html").exists()
    assert (run / "ratio_map.svg").exists()


@pytest.mark.parametrize(
    ("option", "changed"),
    [
        (["--logx"], NAMES - {"ratio_by_position", "ratio_map"}),
        (["--no-logy"], {"curriculum_length_gen_evolution", "training_loss", "inner_loss"}),
        (["--smooth", "3"], {"training_loss"}),
    ],
)
def test_scales_change_the_figures_they_name(finished, tmp_path, option, changed):
    for name, options in (("usual", []), ("other", option)):
        assert tttkit("plot", finished, "-o", tmp_path / name, *options).code == 0
    usual, other = (
        {path.stem: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("usual", "other")
    )
    assert {name for name in NAMES if usual[name] != other[name]} == changed


def test_drawn_figures_are_opened(finished, tmp_path):
    viewer = tmp_path / "xdg-open"
    viewer.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/opened\n')
    viewer.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    result = run_process("plot", finished, "-o", tmp_path / "a", "--open", env=environment)
    assert result.code == 0
    deadline = time.monotonic() + 30
    while not (opened := tmp_path / "opened").exists() or len(opened.read_text().splitlines()) < len(NAMES):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sorted(opened.read_text().splitlines()) == sorted(result.out.splitlines())


def test_smoothing_over_zero_steps_is_refused(finished):
    assert tttkit("plot", finished, "--smooth", "0").code == 2


@pytest.mark.parametrize("formats", ["jpg", "", "png,pdf"])
def test_wrong_format(finished, formats):
    result = tttkit("plot", finished, "--format", formats)
    assert result.code == 2
    assert "--format must be png, svg, html" in result.error


def test_a_run_without_an_evaluation(run):
    (run / "all_summaries.json").write_text("[]")
    result = tttkit("plot", run)
    assert result.code == 2
    assert "has no evaluation yet" in result.error
    assert "tttkit status" in result.error


def test_a_target_that_is_a_file(finished, tmp_path):
    (tmp_path / "file").write_text("")
    result = tttkit("plot", finished, "-o", tmp_path / "file")
    assert result.code == 2
    assert "Traceback" not in result.err


def test_a_run_without_metrics_lacks_two_figures(run):
    (run / "metrics.jsonl").unlink()
    written = json.loads(tttkit("plot", run, "--json").out)["written"]
    assert {Path(path).stem for path in written} == NAMES - {"training_loss", "inner_loss"}


def test_the_evaluations_alone_are_enough(run):
    """A copy of a run may hold only its results."""
    for name in ("metadata.json", "metrics.jsonl"):
        (run / name).unlink()
    assert run_process("plot", run).code == 0


def test_a_run_that_cannot_be_written_to(run):
    """The superuser may write everywhere, so its capability to do so is dropped first."""
    command = [*COMMAND, "plot", run]
    if os.geteuid() == 0:
        without = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"]
        if shutil.which("setpriv") is None or subprocess.run([*without, "true"], check=False).returncode:
            pytest.skip("needs setpriv, or another user than root")
        command = [*without, *command]
    run.chmod(0o555)
    result = subprocess.run(command, capture_output=True, text=True)
    run.chmod(0o755)
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"error: Permission denied: {run}/curriculum_length_gen_evolution.png",
        "hint: nothing was written there; choose another place with --out",
    ]
