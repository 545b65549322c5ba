"""`dynamic` in evaluations: on request, recorded with its settings, resumed, tuned on the training split."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tests.models.small import small_model
from tttkit.analyze.dynamic import dynamic_differences
from tttkit.analyze.record import read_sequences
from tttkit.config.dynamic import DynamicConfig
from tttkit.errors import UsageError
from tttkit.evaluate import measure, token_nll, tune_dynamic
from tttkit.evaluate.dynamic import DynamicRule
from tttkit.evaluate.model_directory import evaluate_model_directory
from tttkit.evaluate.request import EvaluationRequest, prepare
from tttkit.models import LanguageModel, save_model
from tttkit.results.curves import CURVES_NAME, Curves
from tttkit_cli.dynamic_options import flags_of
from tttkit_cli.views.tables import evaluation_table

CONFIG = DynamicConfig(learning_rate=0.05, segment=8)


@pytest.fixture
def request_for(tmp_path, text_data, validation_split):
    save_model(small_model(vocab_size=validation_split.vocab_size), tmp_path / "model", metadata={"window": 16})

    def build(dynamic=None, **fields):
        values = {"data": text_data, "num_sequences": 3, "max_length": 80, "device": "cpu", **fields}
        return EvaluationRequest(path=tmp_path / "model", dynamic=dynamic, **values)

    return build


def test_it_is_measured_on_request_and_recorded(request_for, tmp_path):
    summary = evaluate_model_directory(request_for(CONFIG), tmp_path / "out").summary
    assert summary.get("dynamic") == dataclasses.asdict(CONFIG)
    assert summary.contexts() == ["full", "sw", "sw_aligned", "reset", "dynamic"]
    ratio = summary.ratio("dynamic", 5)
    assert ratio.low < ratio.value < ratio.high
    assert ratio.value == pytest.approx(summary.perplexity("dynamic", 5) / summary.perplexity("full", 5))
    assert "dynamic" in [str(column.header) for column in evaluation_table(summary).columns]
    assert "dynamic" in Curves.read(tmp_path / "out" / CURVES_NAME).contexts()
    job = prepare(request_for())
    sequences = measure.cut_sequences(job.split, 3, 80)[0]
    nll = token_nll(job.model, sequences, "dynamic", dynamic=DynamicRule(config=CONFIG))
    measured = read_sequences(tmp_path / "out").contexts["dynamic"]
    np.testing.assert_allclose(measured, nll.reshape(3, 5, 16).mean(axis=2), rtol=1e-6)


def test_results_with_it_answer_a_request_without_it_but_not_one_with_other_settings(request_for, tmp_path):
    plain = evaluate_model_directory(request_for(), tmp_path / "out")
    assert "dynamic" not in plain.summary.contexts()
    assert plain.summary.get("dynamic") is None
    first = evaluate_model_directory(request_for(CONFIG), tmp_path / "out")
    assert first.written
    assert first.summary.get("evaluation_key") == plain.summary.get("evaluation_key")
    for again in (CONFIG, None):
        assert not evaluate_model_directory(request_for(again), tmp_path / "out").written
    other = dataclasses.replace(CONFIG, decay=0.1)
    second = evaluate_model_directory(request_for(other), tmp_path / "out")
    assert second.written
    assert second.summary.corpus("dynamic") != first.summary.corpus("dynamic")
    assert second.summary.corpus("sw") == first.summary.corpus("sw")


def test_a_stopped_evaluation_continues_and_other_settings_have_other_blocks(request_for, tmp_path, monkeypatch):
    def stop(share):
        if "dynamic" in computed:
            raise KeyboardInterrupt

    computed, original = [], measure.token_nll
    monkeypatch.setattr(
        measure, "token_nll", lambda model, tokens, context, **details: (
            original(model, tokens, context, **details), computed.append(context)
        )[0],
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        evaluate_model_directory(request_for(CONFIG), tmp_path / "out", progress=stop)
    assert "dynamic" in computed
    computed.clear()
    other = dataclasses.replace(CONFIG, learning_rate=0.1)
    stopped = evaluate_model_directory(request_for(other), tmp_path / "out").summary
    assert "full" not in computed
    assert "dynamic" in computed
    whole = evaluate_model_directory(request_for(other), tmp_path / "whole" / "out").summary
    assert stopped.corpus("dynamic") == whole.corpus("dynamic")


def test_the_rms_rule_needs_a_training_split_that_is_not_evaluated(request_for, tmp_path):
    config = DynamicConfig(learning_rate=1e-3, segment=8, optimizer="rms")
    summary = evaluate_model_directory(request_for(config), tmp_path / "out").summary
    assert summary.perplexity("dynamic", 5) != summary.perplexity("full", 5)
    with pytest.raises(UsageError, match="the rule rms of `dynamic` needs gradients on the training split"):
        prepare(request_for(config, split="train"))


def test_weights_that_do_not_exist_are_refused_before_anything_is_measured(request_for):
    with pytest.raises(UsageError, match="no weight of the model is among `nothing`"):
        prepare(request_for(DynamicConfig(learning_rate=0.1, parameters="nothing")))


def test_it_is_null_with_the_reason_for_a_model_that_cannot_be_read_in_segments(request_for, tmp_path, monkeypatch):
    monkeypatch.setattr(LanguageModel, "can_carry", property(lambda _: False))
    summary = evaluate_model_directory(request_for(CONFIG), tmp_path / "out").summary
    assert summary.perplexity("full", 5) is not None
    assert summary.perplexity("dynamic", 5) is None
    assert "cannot be read in segments" in summary.get("not_measured")["dynamic"]


def test_other_settings_are_named(request_for, tmp_path):
    plain, one, other = (
        evaluate_model_directory(request_for(config), tmp_path / name / "out").summary
        for name, config in (("a", None), ("b", CONFIG), ("c", dataclasses.replace(CONFIG, decay=0.1)))
    )
    assert dynamic_differences([plain, one, one], ["a", "b", "c"]) == []
    (row,) = dynamic_differences([plain, one, other], ["a", "b", "c"])
    assert (row["a"], row["refused"]) == ("not measured", None)
    assert "decay 0," in row["b"]
    assert "decay 0.1," in row["c"]


def test_tuning_finds_the_best_rate_on_the_training_split(request_for):
    request = request_for(num_sequences=2)
    tuned = tune_dynamic.tune_dynamic(request, {"segment": 16})
    job = prepare(dataclasses.replace(request, split="train"))
    tokens = measure.cut_sequences(job.split, 2, 80)[0]
    measured = {(trial.learning_rate, trial.decay): trial.nll for trial in tuned.trials}
    assert measured[0.0, 0.0] == tuned.full_nll == pytest.approx(token_nll(job.model, tokens).mean(), abs=1e-5)
    assert tuned.nll == min(value for value in measured.values() if value is not None) < tuned.full_nll
    best = token_nll(job.model, tokens, "dynamic", dynamic=DynamicRule(config=tuned.config))
    assert tuned.nll == pytest.approx(best.mean(dtype=np.float64))
    assert len(measured) == len(tuned.trials) >= 8
    assert json.loads(json.dumps(tuned.to_dict()))["num_tokens"] == 160


def test_the_options_ask_for_the_settings():
    config = DynamicConfig(learning_rate=0.003, decay=0.01, parameters=r"mlp\.(up|down)")
    assert flags_of(config) == "--dynamic-rate 0.003 --dynamic-decay 0.01 --dynamic-parameters 'mlp\\.(up|down)'"
