"""One local cluster of Ray with two workers for the whole session."""

from __future__ import annotations

import os
import tempfile

import pytest

from tests.data.conftest import tokenizer_json  # noqa: F401 - a fixture


@pytest.fixture(scope="session")
def ray():
    """Start a cluster with two slots on this machine, which takes 20 s and several processes; skip without Ray."""
    if "TTTKIT_SLOW_TESTS" not in os.environ:
        pytest.skip("starts a cluster; set TTTKIT_SLOW_TESTS to run it")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_raylet_start_wait_time_s"] = "180"  # noqa: SIM112
    module = pytest.importorskip("ray")
    # sockets have short names only, so the folder of the test session does not do
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        module.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=folder,
            object_store_memory=100 << 20,
        )  # fmt: skip
        yield module
        module.shutdown()


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Let tasks have one thread each, so that two run at the same time, and their bits equal those of one thread."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
