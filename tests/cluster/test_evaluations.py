"""Evaluations on a cluster give the files of one process, also if workers are killed."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

from tests.cli.conftest import trained, tttkit  # noqa: F401 - a fixture
from tests.cluster.workers import kill_a_worker

OPTIONS = ("--num-sequences", 8, "--window", 16, "--device", "cpu")
OF_THE_MOMENT = ("eval_seconds", "path")


def results(directory: Path) -> dict[str, object]:
    """Return everything that an evaluation wrote, without what tells times and places."""
    summary = json.loads((directory / "summary.json").read_text())
    for key in OF_THE_MOMENT:
        summary.pop(key, None)
    files = [directory / "chunk_eval.json", directory / "chunk_nll.safetensors"]
    return {"summary": summary, **{file.name: file.read_bytes() for file in files}}


def test_models_on_a_cluster_have_the_results_of_one_process_although_a_worker_is_killed(ray, trained, tmp_path):  # noqa: F811
    run = trained[0]
    models = [tmp_path / "first", tmp_path / "second"]
    for model, name in zip(models, ("checkpoint_000/model", "checkpoint_002/model"), strict=True):
        shutil.copytree(run / name, model)
    data = Path(json.loads((run / "metadata.json").read_text())["config"]["data"]["path"])
    command = ("eval", "checkpoint", *models, "--data", data, *OPTIONS)
    assert tttkit(*command, "--out", tmp_path / "local").code == 0
    killed: list[int] = []
    ended = threading.Event()
    watcher = threading.Thread(target=kill_a_worker, args=("_compute_part", killed, ended))
    watcher.start()
    result = tttkit(*command, "--out", tmp_path / "ray", "--engine", "ray")
    ended.set()
    watcher.join()
    assert result.code == 0, result.err
    assert killed
    for model in models:
        assert results(tmp_path / "ray" / model.name) == results(tmp_path / "local" / model.name)
        assert not list((tmp_path / "ray" / model.name).glob(".nll-*"))


def test_a_run_on_a_cluster_has_the_results_of_one_process(ray, trained, tmp_path):  # noqa: F811
    places = [tmp_path / name / "run" for name in ("local", "ray")]
    for place, engine in zip(places, ("local", "ray"), strict=True):
        shutil.copytree(trained[0], place)
        result = tttkit("eval", "run", place, "--engine", engine, "--device", "cpu")
        assert result.code == 0, result.err
    for name in ("eval_best_model", "eval_final_model"):
        assert results(places[0] / name) == results(places[1] / name)
