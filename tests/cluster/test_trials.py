"""A study on a cluster: its trials have the files of trials on this machine, also if workers are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.conftest import start, tttkit, wait_until
from tests.cluster.workers import kill_a_worker
from tests.sweep.test_driver import study  # noqa: F401 - a fixture
from tttkit.cluster import trials
from tttkit.cluster.trials import TrialOnCluster
from tttkit.errors import PreemptedError, TttkitError
from tttkit.run.directory import RunDirectory
from tttkit.run.lock import exclusive

ONE_MODEL = 'model = ["sw"]'


def runs_of(directory: Path) -> list[RunDirectory]:
    return [RunDirectory(path) for path in sorted((directory / "trials").glob("*"))]


def results(directory: Path) -> dict[str, object]:
    """Return the weights and the objectives of every run of a study."""
    return {
        run.path.name: (
            (run.path / "final_model" / "model.safetensors").read_bytes(),
            [record["loss"] for record in run.read_metrics()],
            [each.selection_ppl for each in run.read_summaries()],
        )
        for run in runs_of(directory)
    }


class Task:
    """Stands in for a task of a cluster."""

    def __init__(self, outcome=None):
        self.outcome, self.cancelled = outcome, []

    @property
    def has_ended(self):
        return self.outcome is not None

    def result(self):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def cancel(self, *, force=False):
        self.cancelled.append(force)


def on_cluster(tmp_path, task, *, device=None, has_gpus=True):
    """Return a trial whose task is a stand-in, and what the cluster was asked for."""
    asked = {}
    cluster = SimpleNamespace(
        has_gpus=has_gpus, threads=3, start=lambda *arguments, **options: asked.update(options, to=arguments) or task
    )
    config = SimpleNamespace(train=SimpleNamespace(device=device))
    return TrialOnCluster(cluster, SimpleNamespace(config=lambda: config, log=tmp_path / "log")), asked


@pytest.mark.parametrize(
    ("device", "has_gpus", "on_gpu"), [(None, True, True), ("cpu", True, False), (None, False, False)]
)
def test_a_trial_takes_a_gpu_if_the_cluster_has_one_and_the_trial_wants_it(tmp_path, device, has_gpus, on_gpu):
    _, asked = on_cluster(tmp_path, Task(), device=device, has_gpus=has_gpus)
    assert asked["on_gpu"] == on_gpu
    assert asked["to"][0] is trials.train
    assert asked["to"][2] == 3


def test_a_trial_ends_with_the_code_of_its_process(tmp_path):
    trial, _ = on_cluster(tmp_path, Task())
    assert trial.poll() is None
    assert on_cluster(tmp_path, Task(76))[0].poll() == 76


def test_a_trial_that_had_not_begun_counts_as_preempted(tmp_path):
    task = Task()
    trial, _ = on_cluster(tmp_path, task)
    trial.terminate()
    task.outcome = TttkitError("a task of Ray was lost 6 times")
    assert (trial.poll(), task.cancelled) == (PreemptedError.exit_code, [False])
    trial.kill()
    assert task.cancelled == [False, True]


def test_a_trial_whose_workers_were_lost_too_often_says_so_in_its_log(tmp_path):
    trial, _ = on_cluster(tmp_path, Task(TttkitError("a task of Ray was lost 6 times")))
    assert trial.poll() == 1
    assert (tmp_path / "log").read_text() == "error: a task of Ray was lost 6 times\n"


def test_a_task_waits_for_the_run_of_a_lost_worker_and_asks_its_own_to_stop_when_it_is_interrupted(
    tmp_path, monkeypatch
):
    run = RunDirectory(tmp_path)
    started, slept = [], []
    lock = exclusive(run)

    class Process:
        def poll(self):
            return None

        def terminate(self):
            started.append("terminated")

        def wait(self):
            return 75

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 1:
            assert not started
            lock.__exit__(None, None, None)
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(trials.time, "sleep", sleep)
    monkeypatch.setattr(trials, "start_here", lambda *_, **options: started.append(options) or Process())
    lock.__enter__()
    assert trials.train(SimpleNamespace(run=run), 1) == 75
    assert started == [{"ends_with_parent": True}, "terminated"]


def test_a_process_that_ends_with_its_parent_gets_sigterm_when_the_parent_is_killed(tmp_path):
    child = (
        "import os, signal, sys, time; from tttkit.run.processes import end_with_parent\n"
        "signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'w').close(), os._exit(0)))\n"
        "end_with_parent(int(sys.argv[2])); print('ready', flush=True); time.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}, sys.argv[1], str(os.getpid())])\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", parent, str(tmp_path / "asked")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    deadline = time.monotonic() + 30
    while not (tmp_path / "asked").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_study_without_ray_is_refused_in_one_line(study, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "ray", None)
    result = tttkit("sweep", study(), "--engine", "ray")
    assert (result.code, result.out) == (2, "")
    assert "--engine ray needs the package ray" in result.error
    assert "--engine must be one of local, ray; got `spark`" in tttkit("sweep", study(), "--engine", "spark").error


def test_a_study_on_a_cluster_has_the_results_of_this_machine_although_a_worker_is_killed(ray, study):  # noqa: F811
    name = study(60)
    assert tttkit("sweep", name, "--out", "local", "--threads", 1).code == 0
    killed: list[int] = []
    ended = threading.Event()
    watcher = threading.Thread(target=kill_a_worker, args=("train", killed, ended), kwargs={"when": trains})
    watcher.start()
    try:
        result = tttkit("sweep", name, "--out", "cluster", "--engine", "ray", "--json")
    finally:
        ended.set()
        watcher.join()
    assert result.code == 0, result.err
    assert killed
    assert [row["states"] for row in json.loads(result.out)["settings"]] == [["finished"], ["finished"]]
    segments = [run.read_metadata()["segments"] for run in runs_of(Path("cluster"))]
    # the killed worker's run went on, unless it had only been about to start
    assert sorted(map(len, segments)) in ([1, 1], [1, 2]), segments
    assert results(Path("cluster")) == results(Path("local"))


def trains() -> bool:
    return any(len(run.metric_lines()) > 5 for run in runs_of(Path("cluster")))


@pytest.mark.skipif("TTTKIT_SLOW_TESTS" not in os.environ, reason="starts clusters; set TTTKIT_SLOW_TESTS=1")
def test_a_driver_that_is_stopped_or_killed_leaves_runs_that_go_on(study):  # noqa: F811
    pytest.importorskip("ray")
    name = study(400, ONE_MODEL)
    assert tttkit("sweep", name, "--out", "local", "--threads", 1).code == 0
    command = ("sweep", name, "--out", "cluster", "--engine", "ray", "--workers", 1)
    for number, code in ((signal.SIGTERM, 75), (signal.SIGKILL, -9)):
        before = sum(len(run.metric_lines()) for run in runs_of(Path("cluster")))
        with start(*command) as driver:
            wait_until(
                lambda before=before: sum(len(r.metric_lines()) for r in runs_of(Path("cluster"))) > before + 5, driver
            )
            driver.send_signal(number)
            driver.communicate(timeout=120)
        assert driver.returncode == code
    assert tttkit(*command).code == 0
    assert results(Path("cluster")) == results(Path("local"))
