"""Tasks run a few at a time, and again if their worker is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import finished, trained, tttkit  # noqa: F401 - fixtures
from tttkit.cluster import tasks
from tttkit.cluster.tasks import Cluster, connected
from tttkit.errors import DataError, TttkitError, UsageError
from tttkit_cli.console import print_json


def _dies_once(folder: str, index: int) -> int:
    mark = Path(folder) / str(index)
    if not mark.exists():
        mark.touch()
        if index % 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return index


def _refuses() -> None:
    raise DataError("a shard is damaged")


def _dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_task_whose_worker_was_killed_is_done_again(ray, tmp_path):
    with connected() as cluster:
        assert sorted(cluster.run(_dies_once, [(str(tmp_path), index) for index in range(4)])) == [0, 1, 2, 3]


class StandIn:
    """What `Cluster` uses of Ray, in this process: a task that was handed over ends when it is waited for."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            def __init__(self, cause):
                self.cause = cause

    def __init__(self):
        self.cancelled, self.most_waiting, self.options_given = [], 0, {}
        self.waited_for_the_cancelled = 0

    def cluster_resources(self):
        return {"CPU": 2.0}

    def remote(self, function):
        self.function = function
        return self

    def options(self, **options):
        self.options_given = options
        return type("Remote", (), {"remote": staticmethod(lambda *arguments: arguments)})

    def wait(self, running, timeout, num_returns=1):
        if self.cancelled:
            assert running == self.cancelled
            assert num_returns == len(running)
            self.waited_for_the_cancelled += 1
            return running, []
        assert timeout < 1
        self.most_waiting = max(self.most_waiting, len(running))
        return running[:1], running[1:]

    def get(self, task):
        if task[:1] == ("lost",):
            raise self.exceptions.RayError
        try:
            return self.function(*task)
        except Exception as error:
            raise self.exceptions.RayTaskError(error) from error

    def cancel(self, task, *, force):
        assert force
        self.cancelled.append(task)


def test_few_tasks_wait():
    ray = StandIn()
    assert list(Cluster(ray, threads=1).run(abs, ((-index,) for index in range(20)))) == list(range(20))
    assert (ray.most_waiting, ray.cancelled) == (4, [])
    assert ray.options_given["num_cpus"] == 1
    assert ray.options_given["runtime_env"] == {"env_vars": {"OMP_NUM_THREADS": "1"}}


def test_a_task_has_the_cores_of_its_threads():
    ray = StandIn()
    cluster = Cluster(ray, threads=2)
    assert (cluster.num_slots(on_gpu=False), cluster.has_gpus, cluster.num_slots(on_gpu=True)) == (1, False, 1)
    assert list(cluster.run(abs, [(-1,)])) == [1]
    assert (ray.options_given["num_cpus"], ray.options_given["num_gpus"]) == (2, 0)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(("lost",), "a task of Ray was lost 6 times"), (("x",), "a task of Ray failed: bad operand type")],
)
def test_a_task_that_fails_ends_the_others_with_one_line(arguments, expected):
    ray = StandIn()
    with pytest.raises(TttkitError, match=expected) as error:
        list(Cluster(ray, threads=1).run(abs, [arguments, (1,), (2,)]))
    assert len(ray.cancelled) == 2
    assert "\n" not in str(error.value)


def test_an_error_of_tttkit_in_a_task_is_raised_as_it_is():
    with pytest.raises(DataError, match="a shard is damaged"):
        list(Cluster(StandIn(), threads=1).run(_refuses, [()]))


def test_a_stop_request_cancels_all_tasks():
    ray = StandIn()

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Cluster(ray, threads=1).run(abs, [(1,), (2,), (3,)], poll=stop))
    assert ray.cancelled
    assert ray.waited_for_the_cancelled == 1


def test_an_error_of_a_task_is_raised_as_it_is(ray):
    with connected() as cluster, pytest.raises(DataError, match="a shard is damaged"):
        list(cluster.run(_refuses, [()]))


def test_a_task_that_is_lost_again_and_again_ends_with_one_line(ray, monkeypatch):
    monkeypatch.setattr("tttkit.cluster.tasks._RETRIES", 0)
    with connected() as cluster, pytest.raises(TttkitError, match="a task of Ray was lost 1 times"):
        list(cluster.run(_dies, [()]))


def test_a_missing_package_is_one_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="needs the package ray") as error, connected():
        pass
    assert error.value.hint == "pip install 'tttkit[ray]'"


def test_what_ray_prints_goes_to_stderr_and_what_the_command_prints_to_stdout(capsys):
    with tasks._messages_on_stderr():
        print("a worker was lost")
        print_json({"event": "progress"}, indent=None)
    print("the end")
    shown = capsys.readouterr()
    assert shown.err == "a worker was lost\n"
    assert shown.out == '{"event": "progress"}\nthe end\n'


def test_an_unknown_engine_is_refused(finished):  # noqa: F811
    result = tttkit("eval", "checkpoint", finished / "best_model", "--engine", "spark")
    assert "--engine must be one of local, ray; got `spark`" in result.error


def test_a_cluster_that_does_not_start_is_named_even_without_a_message(monkeypatch):
    ray = pytest.importorskip("ray")

    def fail(**_options):
        raise TimeoutError

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(TttkitError, match="Ray did not start: TimeoutError"), connected():
        pass
