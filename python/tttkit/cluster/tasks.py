"""Run functions as tasks of a Ray cluster: a few at a time, and again if their worker was lost."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tttkit.errors import ClusterError, TttkitError, UsageError

ENGINES = ("local", "ray")
_RETRIES = 5
"""How often a task is started again after its worker was lost."""
_WAITING = 2
"""Tasks that wait for each slot; more are handed over when tasks end, so the queue stays short."""
_ENDING_SECONDS = 5.0
"""How long to wait for cancelled tasks to end."""


class Cluster:
    """A connection to Ray."""

    def __init__(self, ray: Any, *, threads: int) -> None:
        """Run each task with `threads` threads."""
        self._ray, self.threads = ray, threads
        resources = ray.cluster_resources()
        self._gpus = int(resources.get("GPU", 0))
        self._cpus = int(resources.get("CPU", 1))

    def num_slots(self, *, on_gpu: bool) -> int:
        """Return the number of tasks that run at the same time."""
        return max(self._gpus, 1) if on_gpu else max(self._cpus // self.threads, 1)

    @property
    def has_gpus(self) -> bool:
        """Whether any machine of the cluster has a GPU."""
        return self._gpus > 0

    def run(
        self,
        function: Callable[..., Any],
        arguments: Iterable[tuple[Any, ...]],
        *,
        on_gpu: bool = False,
        poll: Callable[[], None] = lambda: None,
    ) -> Iterator[Any]:
        """Yield what `function` returns for each of `arguments`, in the order in which the tasks end.

        A task whose worker or machine is lost is started again. `poll` is called several times a second; if it raises,
        all tasks are cancelled, and have ended if they do so in a few seconds. Raises what a task raises, and
        ClusterError if a task was lost too often.
        """
        ray, slots, remote = self._ray, self.num_slots(on_gpu=on_gpu), self._remote(function, on_gpu=on_gpu)
        waiting = iter(arguments)
        running: list[Any] = []
        try:
            while True:
                while len(running) < _WAITING * slots and (item := next(waiting, None)) is not None:
                    running.append(remote.remote(*item))
                if not running:
                    return
                ended, running = ray.wait(running, timeout=0.2)
                poll()
                for task in ended:
                    yield self.result_of(task)
        finally:
            for task in running:
                ray.cancel(task, force=True)
            if running:
                ray.wait(running, num_returns=len(running), timeout=_ENDING_SECONDS)

    def start(self, function: Callable[..., Any], *arguments: Any, on_gpu: bool = False) -> Task:
        """Hand over one task, which begins as soon as there is room; it is started again if its worker is lost."""
        return Task(self, self._ray, self._remote(function, on_gpu=on_gpu).remote(*arguments))

    def _remote(self, function: Callable[..., Any], *, on_gpu: bool) -> Any:
        return self._ray.remote(function).options(
            num_cpus=1 if on_gpu else self.threads, num_gpus=1 if on_gpu else 0, max_retries=_RETRIES,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self.threads)}},
        )  # fmt: skip

    def result_of(self, task: Any) -> Any:
        """Return what a task of Ray returned, once it has ended; raises as `run` does."""
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, TttkitError) else TttkitError(f"a task of Ray failed: {cause}") from error
        except self._ray.exceptions.RayError as error:
            hint = "run the command again: it goes on after what is finished"
            raise ClusterError(f"a task of Ray was lost {_RETRIES + 1} times", hint=hint) from error


class Task:
    """One task that was handed to Ray."""

    def __init__(self, cluster: Cluster, ray: Any, reference: Any) -> None:
        self._cluster, self._ray, self._reference = cluster, ray, reference

    @property
    def has_ended(self) -> bool:
        """Whether the task has returned, failed or was cancelled."""
        return bool(self._ray.wait([self._reference], timeout=0)[0])

    def result(self) -> Any:
        """Return what the task returned. Raises what `Cluster.run` raises."""
        return self._cluster.result_of(self._reference)

    def cancel(self, *, force: bool = False) -> None:
        """Take the task back if it has not begun, else interrupt it with KeyboardInterrupt, or with `force` end it."""
        self._ray.cancel(self._reference, force=force)


class _Stdout(io.TextIOBase):
    """Stands in for sys.stdout, and passes on to stderr what is printed."""

    def __init__(self, behind: Any) -> None:
        self.behind_messages = behind
        """The actual stdout, for the results of a command."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@contextmanager
def _messages_on_stderr() -> Iterator[None]:
    """Pass to stderr what Ray prints about its workers on stdout, where the results of a command belong."""
    stdout = sys.stdout
    sys.stdout = _Stdout(stdout)
    try:
        yield
    finally:
        sys.stdout = stdout


def check_engine(engine: str) -> None:
    """Raise UsageError for an unknown engine, or for ray if it is not installed."""
    if engine not in ENGINES:
        raise UsageError(f"--engine must be one of {', '.join(ENGINES)}; got `{engine}`")
    if engine == "ray" and importlib.util.find_spec("ray") is None:
        raise UsageError("--engine ray needs the package ray", hint="pip install 'tttkit[ray]'")


@contextmanager
def connected(threads: int | None = None) -> Iterator[Cluster]:
    """Connect to the cluster that RAY_ADDRESS names, or start one on this machine for as long as the block runs.

    Tasks have `threads` threads each; by default OMP_NUM_THREADS, else one. Raises UsageError if ray is not installed,
    ClusterError if it does not start.
    """
    check_engine("ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # Ray's 30 s are too few on a busy machine
    import ray

    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = threads or (int(given) if given.isdigit() and int(given) > 0 else 1)
    starts = not ray.is_initialized()
    if starts:
        handler = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            ray.shutdown()
            hint = "see `ray status`; RAY_ADDRESS names a cluster, without it one is started on this machine"
            reason = next(iter(str(error).splitlines()), type(error).__name__)  # some exceptions have no message
            raise ClusterError(f"Ray did not start: {reason}", hint=hint) from error
        finally:
            # Ray takes SIGTERM for itself, and would end with code 1
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)
    try:
        with _messages_on_stderr():
            yield Cluster(ray, threads=threads)
    finally:
        if starts:
            ray.shutdown()
