"""`branch_from`: a run that continues from a training checkpoint of another run."""

from __future__ import annotations

import pytest

from tests.train.resume.test_changes import stop
from tests.training import train
from tttkit.errors import CheckpointError, DataError, UsageError
from tttkit.health.status import read_status
from tttkit.run.saved import training_checkpoints
from tttkit.storage import files


@pytest.fixture
def parent(tiny_values, tmp_path):
    return train(tiny_values(), tmp_path / "parent").run


def weights(run):
    return (run.path / "final_model" / "model.safetensors").read_bytes()


def content(run):
    return {str(path): path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_a_branch_without_changes_equals_the_run_and_leaves_it_alone(parent, tiny_values, tmp_path):
    before = content(parent)
    branch = train(tiny_values(), tmp_path / "branch", branch_from=f"{parent.path}@8").run
    assert content(parent) == before
    assert weights(branch) == weights(parent)
    expected = [(item["step"], item["loss"], item["tokens_seen"]) for item in parent.read_metrics()][8:]
    assert [(item["step"], item["loss"], item["tokens_seen"]) for item in branch.read_metrics()] == expected
    assert branch.best_model.is_dir()
    assert [summary.step for summary in branch.read_summaries()] == [8, 12]
    record = branch.read_metadata()["parent"]
    assert (record["step"], record["changes"], record["past_tokens"]) == (8, [], 0)
    assert record["run_id"] == parent.read_metadata()["run_id"]


def test_what_differs_is_recorded_and_shown(parent, tiny_values, tmp_path):
    changed = tiny_values(optimizer={"learning_rate": 1e-3}, train={"max_steps": 16})
    branch = train(changed, tmp_path / "branch", branch_from=f"{parent.path}@8").run
    changes = ["optimizer.learning_rate: 0.01 -> 0.001", "train.max_steps: 12 -> 16"]
    assert branch.read_metadata()["parent"]["changes"] == changes
    assert "; ".join(changes) in read_status(branch).parent
    assert branch.read_metadata()["result"]["step"] == 16


@pytest.mark.parametrize("step", [9, 11])
def test_a_killed_branch_continues_without_its_parent(parent, tiny_values, tmp_path, step):
    values = tiny_values(optimizer={"learning_rate": 1e-3})
    name = f"{parent.path}@8"
    whole = train(values, tmp_path / "whole", branch_from=name).run
    run = stop(values, tmp_path / "run", step, killed=True, branch_from=name)
    parent.path.rename(tmp_path / "moved")
    train(values, run.path, branch_from=name)
    assert weights(run) == weights(whole)


def test_a_branch_is_complete_from_its_first_training_checkpoint_on_even_without_evaluations(tiny_values, tmp_path):
    values = tiny_values(evaluation={"num_checkpoints": 0})
    parent = train(values, tmp_path / "parent").run
    run = stop(values, tmp_path / "run", 9, killed=True, branch_from=f"{parent.path}@8")
    assert [step for step, _ in training_checkpoints(run)] == [8]


def test_a_branch_has_a_best_model_of_its_own_even_if_its_parent_had_a_better_one(parent, tiny_values, tmp_path):
    worse = tiny_values(
        optimizer={"learning_rate": 50.0}, train={"max_steps": 9}, evaluation={"num_checkpoints": 2},
    )  # fmt: skip
    branch = train(worse, tmp_path / "branch", branch_from=f"{parent.path}@8").run
    (summary,) = branch.read_summaries()
    assert summary.selection_ppl > parent.read_summaries()[-1].selection_ppl
    assert files.read_json(branch.best_model / "config.json")["step"] == 9


def test_a_branch_of_a_run_that_prepared_its_own_data(tiny_values, tmp_path):
    (tmp_path / "text").mkdir()
    for name in "abcd":
        (tmp_path / "text" / f"{name}.txt").write_text(f"{name} said what there is to say. " * 400)
    own = {"path": None, "source": str(tmp_path / "text"), "validation_fraction": 0.25, "tokenizer": "bpe:300"}
    values = {**tiny_values(), "data": own}
    parent = train(values, tmp_path / "parent").run
    branch = train(values, tmp_path / "branch", branch_from=f"{parent.path}@8").run
    assert branch.read_metadata()["parent"]["changes"] == []
    assert weights(branch) == weights(parent)
    assert (branch.path / "data").is_dir()


def test_a_step_without_training_checkpoint_lists_those_there_are(parent, tiny_values, tmp_path):
    with pytest.raises(DataError, match="no training checkpoint of step 5") as error:
        train(tiny_values(), tmp_path / "branch", branch_from=f"{parent.path}@5")
    assert "8, 12" in error.value.hint
    assert not (tmp_path / "branch").exists()


def test_a_damaged_training_checkpoint_is_refused_and_stays(parent, tiny_values, tmp_path):
    path = parent.states / "step_8" / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    before = content(parent)
    with pytest.raises(DataError, match="tensors.safetensors"):
        train(tiny_values(), tmp_path / "branch", branch_from=f"{parent.path}@8")
    assert content(parent) == before


def test_another_architecture_or_tokenizer_is_refused(parent, tiny_values, tmp_path):
    with pytest.raises(CheckpointError, match="does not have the model's parameters"):
        train(tiny_values(model={"num_hidden_layers": 2}), tmp_path / "branch", branch_from=f"{parent.path}@8")
    metadata = parent.read_metadata()
    files.write_json(parent.metadata, {**metadata, "data": {**metadata["data"], "fingerprint": "0" * 64}})
    branch = train(tiny_values(), tmp_path / "other", branch_from=f"{parent.path}@8").run
    assert branch.read_metadata()["parent"]["changes"][0].startswith("data fingerprint: 000000000000 -> ")
    config = files.read_json(parent.best_model / "config.json")
    files.write_json(parent.best_model / "config.json", {**config, "tokenizer_sha256": "1" * 64})
    with pytest.raises(DataError, match="was trained with tokenizer 111111111111"):
        train(tiny_values(), tmp_path / "another", branch_from=f"{parent.path}@8")


@pytest.mark.parametrize(
    ("options", "match"),
    [({"branch_from": "parent"}, "RUN@STEP"), ({"branch_from": "p@8", "init_from": "p"}, "exclude each other")],
)
def test_mistakes_are_named(tiny_values, tmp_path, options, match):
    with pytest.raises(UsageError, match=match):
        train(tiny_values(), tmp_path / "branch", **options)
    assert not (tmp_path / "branch").exists()
