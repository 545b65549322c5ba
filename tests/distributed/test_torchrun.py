"""The real torchrun: it restarts killed ranks by itself, and two network namespaces work as two machines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.distributed.ranks import codes_of, start_ranks, train
from tests.distributed.test_lost_ranks import assert_same
from tttkit.config.layers import to_toml
from tttkit.run.directory import RunDirectory
from tttkit.run.ranks_file import RanksFile

pytestmark = pytest.mark.skipif(
    not os.environ.get("TTTKIT_SLOW_TESTS"), reason="starts many interpreters; set TTTKIT_SLOW_TESTS=1"
)
PORT = 20_000 + os.getpid() % 10_000
SECONDS = 100.0
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "RES_OPTIONS": "timeout:1 attempts:1"}


@pytest.fixture
def configured(tiny_values, tmp_path):
    """Return a function that writes the configuration file of a run."""

    def build(**settings):
        settings = {"global_batch": 8, "save_every": 4, "rank_timeout": 20.0, **settings}
        values = tiny_values(train=settings, evaluation={"num_checkpoints": 2}, early_stopping={"enabled": False})
        file = tmp_path / "run.toml"
        file.write_text(to_toml(values))
        return file

    return build


@pytest.fixture
def torchrun():
    """Start torchrun; it is stopped at the end of the test, and stops its ranks."""
    processes = []

    def start(*options, run, config, before=()):
        command = [*before, sys.executable, "-m", "torch.distributed.run", *map(str, options), "-m", "tttkit_cli"]
        with run.with_suffix(".torchrun").open("a") as log:
            processes.append(
                subprocess.Popen(
                    [*command, "train", str(config), "--out", str(run), "--plain"],
                    env=ENVIRONMENT, stdout=log, stderr=log,
                )
            )  # fmt: skip
        return processes[-1]

    yield start
    for process in processes:
        process.terminate()
        process.wait(60)


def wait_for(processes, run):
    """Wait for the ends of torchrun processes; fail with their output."""
    try:
        codes = [process.wait(SECONDS) for process in processes]
    except subprocess.TimeoutExpired:
        codes = None
    assert codes == [0] * len(processes), run.with_suffix(".torchrun").read_text()


def test_torchrun_restarts_killed_ranks_and_the_run_ends_with_the_same_bits(configured, torchrun, tmp_path):
    config = configured(max_steps=40)
    path, run = tmp_path / "run", RunDirectory(tmp_path / "run")
    process = torchrun("--nproc-per-node", 2, "--max-restarts", 3, "--master-port", PORT, run=path, config=config)
    while len(run.metric_lines()) < 9:
        assert process.poll() is None, path.with_suffix(".torchrun").read_text()
        time.sleep(0.05)
    os.kill(RanksFile(run).read()["ranks"][1]["pid"], signal.SIGKILL)
    wait_for([process], path)
    assert [segment["reason"] for segment in run.read_metadata()["segments"]] == ["rank-lost", "finished"]
    assert "rank 1 (host" in run.training_log.read_text()
    settings = run.read_metadata()["config"]  # the command line starts from a preset
    whole = start_ranks(2, train, settings, str(tmp_path / "whole"), log=tmp_path / "log")
    assert codes_of(whole) == [0, 0], (tmp_path / "log").read_text()
    assert_same(path, tmp_path / "whole", tmp_path / "log")


@pytest.fixture
def nodes():
    """Return the names and addresses of two network namespaces that are joined by a virtual cable."""
    names, addresses = [f"ttt{os.getpid()}{letter}" for letter in "ab"], ["10.77.0.1", "10.77.0.2"]
    commands = [f"ip netns add {name}" for name in names]
    commands += [f"ip link add veth0 netns {names[0]} type veth peer name veth0 netns {names[1]}"]
    for name, address in zip(names, addresses, strict=True):
        commands += [f"ip -n {name} addr add {address}/24 dev veth0", f"ip -n {name} link set veth0 up"]
        commands += [f"ip -n {name} link set lo up"]
    try:
        for command in commands:
            try:
                subprocess.run(command.split(), check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                why = getattr(error, "stderr", None) or error
                pytest.skip(f"network namespaces cannot be made here: {str(why).strip()}")
        yield dict(zip(names, addresses, strict=True))
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_two_network_namespaces_train_as_two_machines(configured, torchrun, nodes, tmp_path, monkeypatch):
    config = configured(max_steps=12)
    path, run = tmp_path / "run", RunDirectory(tmp_path / "run")
    monkeypatch.setitem(ENVIRONMENT, "GLOO_SOCKET_IFNAME", "veth0")
    processes = [
        torchrun(
            "--nnodes", 2, "--nproc-per-node", 1, "--rdzv-backend", "c10d", "--rdzv-id", "test",
            "--rdzv-endpoint", "10.77.0.1:29400", "--local-addr", address,
            # a host name means nothing in a namespace, so the node that holds the store is named
            "--rdzv-conf", f"is_host={int(address == '10.77.0.1')}",
            run=path, config=config, before=("ip", "netns", "exec", name),
        )
        for name, address in nodes.items()
    ]  # fmt: skip
    wait_for(processes, path)
    assert run.read_metadata()["world_size"] == 2
    settings = run.read_metadata()["config"]  # the command line starts from a preset
    whole = start_ranks(2, train, settings, str(tmp_path / "whole"), log=tmp_path / "log")
    assert codes_of(whole) == [0, 0], (tmp_path / "log").read_text()
    assert_same(path, tmp_path / "whole", tmp_path / "log")
