"""An export may be killed at any moment and repeated, also after the run went on: each step is there exactly once."""

from __future__ import annotations

import os
import signal
import struct
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import start, train_options, tttkit, wait_until
from tests.trackers import readers
from tests.trackers.made_up import RUN_ID, add_steps, finish, make_run
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive
from tttkit.trackers.export import TRACKERS, open_tracker
from tttkit.trackers.rows import read_facts, read_rows

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Let wandb write local runs, and keep what it remembers inside the test."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))


@pytest.fixture(params=TRACKERS)
def tracker(request) -> str:
    if request.param != "csv":
        pytest.importorskip(request.param)
    return request.param


def command(run: RunDirectory, tracker: str, *more: object) -> list[object]:
    return ["export", run.path, "--to", tracker, "--out", place_of(run), *more]


def place_of(run: RunDirectory) -> Path:
    return run.path.parent / "exported"


def read_back(run: RunDirectory, tracker: str) -> readers.Rows:
    if tracker == "csv":
        return readers.read_csv(place_of(run))
    if tracker == "tensorboard":
        return readers.read_tensorboard(place_of(run))
    if tracker == "wandb":
        return readers.read_wandb(place_of(run))
    return readers.read_trackio(place_of(run), "tttkit", RUN_ID)


def expected(run: RunDirectory, tracker: str) -> readers.Rows:
    def stored(value: float) -> float:
        return struct.unpack("<f", struct.pack("<f", value))[0] if tracker == "tensorboard" else value

    return {row.step: {key: stored(value) for key, value in row.values.items()} for row in read_rows(run).rows}


def test_an_export_that_was_killed_is_complete_after_it_is_repeated(tracker, tmp_path):
    run = make_run(tmp_path / "run", steps=range(1, 400), evaluated=(0, 100, 200))
    with start(*command(run, tracker, "--follow"), start_new_session=True) as process, exclusive(run):
        wait_until(lambda: any(place_of(run).rglob("*")), process)  # it has begun to write
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    add_steps(run, range(390, 500))  # the run was resumed
    finish(run)
    for _ in range(2 if tracker in ("csv", "tensorboard") else 1):
        result = tttkit_apart(*command(run, tracker))
        assert result == (0, f"exported 500 steps of {run.path} to ")
        assert read_back(run, tracker) == expected(run, tracker)


def tttkit_apart(*arguments: object) -> tuple[int, str]:
    """Run a command in a process of its own; return its exit code and the beginning of what it printed."""
    with start(*arguments) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return process.returncode, out.splitlines()[-1].partition(" to ")[0] + " to "


def test_a_follower_writes_while_the_run_goes_on_and_ends_after_it(tmp_path):
    run = make_run(tmp_path / "run", steps=range(1, 10))
    events = place_of(run) / f"events.out.tfevents.0.{RUN_ID}"
    with start(*command(run, "tensorboard", "--follow", "--every", 0.1)) as process:
        with exclusive(run):
            wait_until(events.exists, process)
            size = events.stat().st_size
            add_steps(run, range(10, 20))
            wait_until(lambda: events.stat().st_size > size, process)
            finish(run)
        assert process.wait(60) == 0
    assert read_back(run, "tensorboard") == expected(run, "tensorboard")


@pytest.mark.parametrize("cut", [1, 7, 40])
def test_a_torn_record_of_tensorboard_is_completed(tmp_path, cut):
    pytest.importorskip("tensorboard")
    run = make_run(tmp_path / "run", steps=range(1, 10))
    finish(run)
    assert tttkit(*command(run, "tensorboard")).code == 0
    events = place_of(run) / f"events.out.tfevents.0.{RUN_ID}"
    whole = events.read_bytes()
    inode = events.stat().st_ino
    events.write_bytes(whole[:-cut])
    assert tttkit(*command(run, "tensorboard")).code == 0
    assert events.read_bytes() == whole
    assert events.stat().st_ino == inode  # appended, so that a TensorBoard that has it open sees the rest


def test_steps_that_were_computed_again_with_other_values_replace_the_file_of_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    run = make_run(tmp_path / "run", steps=range(1, 10))
    assert tttkit(*command(run, "tensorboard")).code == 0
    add_steps(run, range(5, 12), loss=9.0)
    finish(run)
    assert tttkit(*command(run, "tensorboard")).code == 0
    assert read_back(run, "tensorboard") == expected(run, "tensorboard")


def test_a_follower_replaces_the_file_of_tensorboard_when_steps_were_computed_again(tmp_path):
    pytest.importorskip("tensorboard")
    run = make_run(tmp_path / "run", steps=range(1, 10))
    target = open_tracker("tensorboard", run, read_facts(run), output=place_of(run), project="tttkit", offline=True)
    target.write(read_rows(run))
    add_steps(run, range(5, 12), loss=9.0)
    finish(run)
    target.write(read_rows(run))
    assert read_back(run, "tensorboard") == expected(run, "tensorboard")


def test_an_export_to_wandb_removes_what_an_earlier_one_wrote_a_while_ago(tmp_path):
    pytest.importorskip("wandb")
    run = make_run(tmp_path / "run", steps=range(1, 10))
    finish(run)
    earlier = place_of(run) / f"offline-run-20200101_000000-{RUN_ID}"
    earlier.mkdir(parents=True)
    (earlier / f"run-{RUN_ID}.wandb").touch()
    tttkit_apart(*command(run, "wandb"))
    (session,) = place_of(run).glob("offline-run-*")
    assert session != earlier
    assert read_back(run, "wandb") == expected(run, "wandb")


def test_figures_are_exported(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = make_run(tmp_path / "run", steps=range(1, 4))
    (run.path / "ratio.png").write_bytes(PNG)
    for _ in range(2):
        assert tttkit(*command(run, "tensorboard")).code == 0
        events = EventAccumulator(str(place_of(run) / "figures"))
        events.Reload()
        (image,) = events.Images("figures/ratio")
        assert image.encoded_image_string == PNG


def test_two_exports_of_a_run_to_one_tracker_are_refused(tmp_path):
    run = make_run(tmp_path / "run", steps=range(1, 4))
    with start(*command(run, "csv", "--follow")) as process, exclusive(run):
        wait_until(lambda: (place_of(run) / "evaluations.csv").exists(), process)
        assert "already exported to csv by host" in tttkit(*command(run, "csv")).error


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_is_one_line(name, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", steps=range(1, 4))
    hide(name, monkeypatch)
    result = tttkit("export", run.path, "--to", name)
    assert result.code == 2
    assert result.error == f"error: --to {name} needs the package {name} hint: pip install 'tttkit[{name}]'"


def hide(name: str, monkeypatch) -> None:
    """Let imports of a package fail."""
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)


def test_an_unknown_tracker_is_refused(tmp_path):
    assert "must be one of tensorboard, wandb, trackio, csv" in tttkit("export", tmp_path, "--to", "mlflow").error


def test_wandb_online_sends_the_steps_after_the_last_one_it_holds(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from tttkit.trackers.rows import read_facts
    from tttkit.trackers.to_wandb import WandbTracker

    run = make_run(tmp_path / "run", steps=range(1, 10))
    logged = []

    class Held:
        step = 5

        def log(self, _values, step):
            logged.append(step)

        def finish(self):
            pass

    monkeypatch.setattr(wandb, "init", lambda **settings: Held())
    tracker = WandbTracker(tmp_path / "there", read_facts(run), "project", offline=False)
    for _ in range(2):
        tracker.write(read_rows(run))
    tracker.close()
    assert logged == [5, 6, 7, 8]


def test_a_failing_export_is_a_warning_of_the_run(tiny_data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    failing = (sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit('error: no connection')")
    monkeypatch.setattr("tttkit_cli.follower._COMMAND", failing)
    result = tttkit(*train_options(tiny_data, run, "--track", "csv"))
    assert result.code == 0
    assert "warning: the export to csv ended: no connection; " in result.err
    assert "the export to csv ended" in (run / "training.log").read_text()


def test_train_exports_beside_the_run(tiny_data, tmp_path):
    run = RunDirectory(tmp_path / "run")
    result = tttkit(*train_options(tiny_data, run.path, "--track", "csv"))
    assert result.code == 0
    assert "warning" not in result.err
    assert readers.read_csv(run.path / "csv") == expected(run, "csv")


def test_train_refuses_a_tracker_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = tttkit("train", "--out", tmp_path / "run", "--track", "wandb")
    assert result.error == "error: --track wandb needs the package wandb hint: pip install 'tttkit[wandb]'"
    assert not (tmp_path / "run").exists()
