"""Resume with changed values: what is counted, what is kept, and what is refused."""

from __future__ import annotations

import json

import pytest

from tests.training import train
from tttkit.data import open_split
from tttkit.errors import PreemptedError, UsageError
from tttkit.health.doctor import examine_run
from tttkit.health.status import read_status
from tttkit.results.summary import SUMMARY_NAME, Summary, perplexity_key
from tttkit.run.directory import RunDirectory
from tttkit.run.saved import training_checkpoints
from tttkit.run.signals import StopSignals
from tttkit.storage import files
from tttkit.train import evaluator

LONGER = frozenset({"train.max_steps"})


class Crash(BaseException):
    """Ends a run as a killed process does: nothing more is written."""


def stop(values, out, step, *, killed=False, **options) -> RunDirectory:
    """Train until `step` is logged, then stop as after SIGTERM, or as if the process had been killed."""
    with StopSignals() as signals:

        def report(event):
            if event["event"] == "step" and event["step"] == step:
                if killed:
                    raise Crash
                signals.requested = "SIGTERM"

        with pytest.raises(Crash if killed else PreemptedError):
            train(values, out, report=report, signals=signals, **options)
    return RunDirectory(out)


def check(run: RunDirectory) -> None:
    """Every evaluation that is listed has its own number, step and directory, and the last is of the final model."""
    listed = [(summary.index, summary.step) for summary in run.read_summaries()]
    on_disk = [(index, Summary.read(path / SUMMARY_NAME).step) for index, path in run.checkpoints().items()]
    assert listed == on_disk == sorted(set(listed))
    assert len({step for _, step in listed}) == len(listed)
    result = run.read_metadata()["result"]
    assert (result["step"], result["final_ppl_at_1xW"]) == (
        listed[-1][1], run.read_summaries()[-1].get(perplexity_key("full", 1)),
    )  # fmt: skip
    steps = [json.loads(line)["step"] for line in run.metric_lines()]
    assert steps == list(range(1, result["step"] + 1))


def test_tokens_are_counted_when_the_batch_changes(tiny_values, tmp_path):
    run = stop(tiny_values(), tmp_path / "run", 5)
    (done, _) = training_checkpoints(run)[0]
    events = []
    larger = tiny_values(train={"batch_size": 8, "grad_accumulation": 2})
    changed = frozenset({"train.batch_size", "train.grad_accumulation"})
    train(larger, run.path, allow_change=changed, report=events.append)
    (plan,) = [event for event in events if event["event"] == "plan"]
    assert plan["tokens_seen"] == done * 4 * 16
    expected = [min(step, done) * 4 * 16 + max(0, step - done) * 16 * 16 for step in range(1, 13)]
    assert [record["tokens_seen"] for record in run.read_metrics()] == expected
    assert [summary.tokens for summary in run.read_summaries()][-1] == expected[-1]
    assert read_status(run).tokens_seen == run.read_metadata()["result"]["tokens_seen"] == expected[-1]
    assert files.read_json(run.final_model / "config.json")["tokens_seen"] == expected[-1]
    check(run)


def test_a_training_checkpoint_that_counted_no_tokens_is_read(tiny_values, tmp_path):
    run = stop(tiny_values(), tmp_path / "run", 5)
    done, path = training_checkpoints(run)[0]
    state = files.read_json(path / "state.json")
    del state["progress"]["tokens_seen"]
    files.write_json(path / "state.json", {**state, "schema_version": 2})
    manifest = files.read_json(path / "MANIFEST.json")
    manifest["files"]["state.json"] = {
        "size": (path / "state.json").stat().st_size, "sha256": files.sha256_of(path / "state.json"),
    }  # fmt: skip
    files.write_json(path / "MANIFEST.json", manifest)
    train(tiny_values(train={"batch_size": 8}), run.path, allow_change=frozenset({"train.batch_size"}))
    assert run.read_metadata()["result"]["tokens_seen"] == done * 4 * 16 + (12 - done) * 8 * 16


@pytest.mark.parametrize("killed", [False, True])
def test_more_steps_on_an_unfinished_run_keep_its_evaluations(tiny_values, tmp_path, killed):
    """Evaluations after the training checkpoint are set aside: the new schedule gives other ones."""
    values = tiny_values(train={"save_every": 3}, evaluation={"num_checkpoints": 7})
    run = stop(values, tmp_path / "run", 9, killed=killed)
    before = {path.name: (path / SUMMARY_NAME).read_bytes() for path in run.checkpoints().values()}
    known = files.read_json(training_checkpoints(run)[0][1] / "state.json")["progress"]["evaluated"]
    longer = tiny_values(train={"save_every": 3, "max_steps": 30}, evaluation={"num_checkpoints": 7})
    events = []
    train(longer, run.path, allow_change=LONGER, report=events.append)
    assert [summary.step for summary in run.read_summaries()] == sorted({*known, 10, 15, 20, 25, 30})
    check(run)
    kept = {path.name.partition(".")[0]: path for path in sorted(run.path.glob("checkpoint_*"), reverse=True)}
    for name, content in before.items():
        aside = run.path / f"{name}.superseded-0"
        assert ((aside if aside.exists() else kept[name]) / SUMMARY_NAME).read_bytes() == content
    warnings = [event["message"] for event in events if event["event"] == "warning"]
    assert "allowed difference: train.max_steps: 12 -> 30" in warnings
    assert any("follows the new schedule" in message for message in warnings)
    assert not any("not bit-identical" in message for message in warnings)
    planned = run.read_metadata()["num_evaluations_planned"]
    assert read_status(run).num_evaluations == read_status(run).num_evaluations_planned == planned
    assert {item.level for item in examine_run(run)} <= {"ok"}


def test_a_best_model_of_the_abandoned_course_is_set_aside(tiny_values, tmp_path):
    values = tiny_values(train={"save_every": 3}, evaluation={"num_checkpoints": 7})
    run = stop(values, tmp_path / "run", 9, killed=True)
    assert files.read_json(run.best_model / "config.json")["step"] == 8, "the training checkpoint is of step 6"
    train(tiny_values(train={"save_every": 3, "max_steps": 7}, evaluation={"num_checkpoints": 7}), run.path,
          allow_change=LONGER)  # fmt: skip
    assert files.read_json(run.path / "best_model.superseded-0" / "config.json")["step"] == 8
    assert files.read_json(run.best_model / "config.json")["step"] == read_status(run).best_step == 7


def test_a_finished_run_continues_with_more_steps(tiny_values, tmp_path):
    run = train(tiny_values(), tmp_path / "run").run
    assert train(tiny_values(train={"max_steps": 18}), run.path, allow_change=LONGER).reason == "finished"
    assert [record["step"] for record in run.read_metrics()] == list(range(1, 19))
    check(run)
    assert [segment["start_step"] for segment in run.read_metadata()["segments"]] == [0, 12]


def test_an_early_stopped_run_continues_only_if_it_would_not_stop_at_once(tiny_values, tmp_path):
    stopping = {"patience": 2, "min_delta": "99%", "min_steps_ratio": 0.4}
    values = tiny_values(evaluation={"num_checkpoints": 13}, early_stopping=stopping)
    run = train(values, tmp_path / "run").run
    with pytest.raises(UsageError, match="early-stopped at step 5, so these changes would train nothing") as error:
        train(tiny_values(evaluation={"num_checkpoints": 13}, early_stopping={**stopping, "patience": 1}), run.path,
              allow_change=frozenset({"early_stopping.patience"}))  # fmt: skip
    assert "--no-early-stop" in error.value.hint
    more = tiny_values(evaluation={"num_checkpoints": 13}, early_stopping={**stopping, "enabled": False})
    assert train(more, run.path, allow_change=frozenset({"early_stopping.enabled"})).reason == "finished"
    check(run)


def test_a_finished_run_without_training_checkpoints_is_refused(tiny_values, tmp_path):
    run = train(tiny_values(), tmp_path / "run").run
    before = run.metadata.read_bytes()
    files.remove_tree(run.states)
    with pytest.raises(UsageError, match="no training checkpoint to continue from"):
        train(tiny_values(train={"max_steps": 18}), run.path, allow_change=LONGER)
    assert run.metadata.read_bytes() == before


def test_fewer_steps_than_done_end_the_run_where_it_is(tiny_values, tmp_path):
    run = stop(tiny_values(), tmp_path / "run", 7)
    (done, _) = training_checkpoints(run)[0]
    events = []
    train(tiny_values(train={"max_steps": 2}), run.path, allow_change=LONGER, report=events.append)
    assert run.read_metadata()["config"]["train"]["max_steps"] == run.read_metadata()["result"]["step"] == done
    check(run)
    (plan,) = [event for event in events if event["event"] == "plan"]
    assert (plan["step"], plan["max_steps"]) == (done, done)
    assert any(f"the run ends at step {done}" in event.get("message", "") for event in events)
    with pytest.raises(UsageError, match="would train nothing"):
        train(tiny_values(train={"max_steps": 1}), run.path, allow_change=LONGER)


def test_the_refusal_names_the_ways(tiny_values, tmp_path):
    run = train(tiny_values(), tmp_path / "run").run
    with pytest.raises(UsageError, match="max_steps: 12 -> 18") as error:
        train(tiny_values(train={"max_steps": 18}), run.path)
    assert f"`tttkit resume {run.path} --max-steps 18`" in error.value.hint
    assert "choose another --out" in error.value.hint
    with pytest.raises(UsageError, match=r"learning_rate: 0\.01 -> 0\.001$") as error:
        train(tiny_values(optimizer={"learning_rate": 1e-3}), run.path)
    for way in (
        f"`tttkit resume {run.path} --max-steps N`",
        f"--branch-from {run.path}@STEP",
        f"--init-from {run.path}",
    ):
        assert way in error.value.hint


def test_numbers_count_evaluations_whatever_the_schedule(tiny_values, tmp_path):
    subject = evaluator.Evaluator(
        run=RunDirectory(tmp_path), config=None, model=None, splits={}, metadata=None, log=None, report=print,
        signals=None, schedule=[0, 40, 80], pace=None, early_stopping=None,
        summaries=[Summary({"checkpoint_idx": index, "step": step}) for index, step in ((0, 0), (5, 10))],
    )  # fmt: skip
    progress = evaluator.TrainingProgress(step=40, evaluated=[0, 10])
    assert subject._next_index(progress) == 6
    subject.summaries = []
    assert subject._next_index(progress) == 2


def test_a_path_of_the_same_data_is_no_difference(tiny_values, tiny_data, tmp_path, monkeypatch):
    run = stop(tiny_values(), tmp_path / "run", 5)
    monkeypatch.chdir(tiny_data.parent)
    assert train(tiny_values(data={"path": "data"}), run.path).reason == "finished"
    metadata = run.read_metadata()
    assert metadata["data"]["path"] == metadata["config"]["data"]["path"] == str(tiny_data)
    fingerprint = open_split(tiny_data, "train").fingerprint
    assert metadata["data"]["fingerprint"] == fingerprint


def test_every_key_that_resume_offers_is_known():
    from tttkit.config.flags import FLAGS, RESUME_FLAGS
    from tttkit.config.run import known_key

    assert all(known_key(FLAGS[flag]) == FLAGS[flag] for flag in RESUME_FLAGS)
    assert known_key("train.carry") == "train.initial_state"
    with pytest.raises(UsageError, match=r"unknown key `train\.batchsize`") as error:
        known_key("train.batchsize")
    assert error.value.hint == "did you mean `train.batch_size`?"


@pytest.mark.parametrize("stopped_early", [False, True])
def test_a_run_with_its_own_data_never_looks_at_the_source_again(tiny_values, tmp_path, monkeypatch, stopped_early):
    """The source is deleted while the run is stopped, before or after it recorded its data."""
    from tttkit.train import start

    source = tmp_path / "text"
    source.mkdir()
    for index in range(8):
        (source / f"{index}.txt").write_text(" ".join(f"word{(index * step) % 61}" for step in range(900)))
    values = tiny_values(data={"path": None, "source": str(source), "tokenizer": "bpe:300", "validation_fraction": 0.3})
    if stopped_early:
        with monkeypatch.context() as patch, pytest.raises(Crash):
            patch.setattr(start, "check_splits", lambda *_: (_ for _ in ()).throw(Crash))
            train(values, tmp_path / "run")
        assert "data" not in RunDirectory(tmp_path / "run").read_metadata()
    else:
        stop(values, tmp_path / "run", 5)
    files.remove_tree(source)
    (tmp_path / "run").rename(tmp_path / "moved")
    run = train(values, tmp_path / "moved").run
    metadata = run.read_metadata()
    assert (metadata["result"]["reason"], metadata["data"]["path"]) == ("finished", "data")
    with pytest.raises(UsageError, match=r"data\.source"):
        train(tiny_values(data={**values["data"], "source": "stdlib"}), run.path)
