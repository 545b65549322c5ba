"""The examples for clusters: a shell that reads them, fields that their readers know, options that tttkit has."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import tttkit
from tttkit.config.presets import preset_values

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
SLURM, JOBSET = EXAMPLES / "slurm.sh", EXAMPLES / "jobset.yaml"
SBATCH = {
    "job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time", "signal", "requeue", "open-mode",
}  # fmt: skip
JOB = {"parallelism", "completions", "completionMode", "backoffLimit", "template"}
POD = {"restartPolicy", "terminationGracePeriodSeconds", "containers", "volumes"}
CONTAINER = {"name", "image", "command", "ports", "resources", "volumeMounts"}


def words_of_slurm() -> list[str]:
    text = SLURM.read_text().replace("\\\n", " ")
    (line,) = [line for line in text.splitlines() if line.startswith("exec srun")]
    return shlex.split(line)


def job() -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(JOBSET.read_text())


def test_the_shell_reads_the_slurm_example():
    subprocess.run(["bash", "-n", SLURM], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", SLURM], check=True)


def test_the_slurm_example_has_options_that_sbatch_knows():
    options = re.findall(r"^#SBATCH --([a-z-]+)", SLURM.read_text(), flags=re.M)
    assert set(options) == SBATCH
    assert "#SBATCH --ntasks-per-node=1" in SLURM.read_text()  # torchrun starts the ranks


def test_the_jobset_example_has_the_fields_of_a_jobset():
    value = job()
    assert value["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert value["kind"] == "JobSet"
    (replicated,) = value["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert (set(spec), set(pod), set(container)) == (JOB, POD, CONTAINER)
    assert spec["completionMode"] == "Indexed"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_jobset_example_names_its_first_pod_and_all_its_devices():
    value = job()
    (replicated,) = value["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]
    container = spec["template"]["spec"]["containers"][0]
    name = value["metadata"]["name"]
    port = container["ports"][0]["containerPort"]
    assert f"--rdzv-endpoint={name}-{replicated['name']}-0-0.{name}:{port}" in container["command"]
    assert f"--nnodes={spec['parallelism']}" in container["command"]
    assert spec["completions"] == spec["parallelism"]
    assert f"--nproc-per-node={container['resources']['limits']['nvidia.com/gpu']}" in container["command"]


@pytest.mark.parametrize("words", [words_of_slurm, lambda: job()["spec"]["replicatedJobs"][0]["template"]["spec"][
    "template"]["spec"]["containers"][0]["command"]], ids=["slurm", "jobset"])  # fmt: skip
def test_the_command_is_one_that_torchrun_and_tttkit_take(words, tiny_data, tmp_path):
    from torch.distributed.run import get_args_parser

    command = words()
    command = command[command.index("torchrun") + 1 :]
    for variable, text in {"$SLURM_JOB_NUM_NODES": "4", "$SLURM_JOB_ID": "7"}.items():
        command = [word.replace(variable, text) for word in command]
    parsed = get_args_parser().parse_args(command)
    assert (parsed.nnodes, parsed.nproc_per_node, parsed.rdzv_backend) == ("4", "8", "c10d")
    assert parsed.module
    assert parsed.training_script == "tttkit_cli"
    verb, *options = [re.sub(r"\$data|/shared/DATA", str(tiny_data), word) for word in parsed.training_script_args]
    assert preset_values("curriculum-100k")
    result = tttkit(verb, *options, "--dry-run")
    assert result.code == 0, result.err
