"""The context `dynamic`: honest scores, weights that come back, the rules of the steps, and its place in results."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.models.small import random_ids, small_model
from tttkit.config.dynamic import DynamicConfig
from tttkit.data import open_split
from tttkit.errors import NumericalError, UsageError
from tttkit.evaluate import token_nll
from tttkit.evaluate.adaptation import Adaptation, gradients_of, select_parameters
from tttkit.evaluate.dynamic import DynamicRule, dynamic_rule, gradient_rms
from tttkit.models import load_scoring_model

SEGMENT, RATE = 16, 0.05


def rule(**fields):
    return DynamicRule(config=DynamicConfig(**{"learning_rate": RATE, "segment": SEGMENT, **fields}))


def dynamic(model, tokens, **fields):
    return token_nll(model, tokens, "dynamic", dynamic=rule(**fields))


def foreign(shared, family="llama"):
    return load_scoring_model(shared / "golden" / "ops" / "models" / family)


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.module.state_dict().items()}


def assert_same_bits(before, after):
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


class TestHonesty:
    def test_a_later_token_changes_no_earlier_score(self, tiny_model):
        self.check(tiny_model)

    @pytest.mark.parametrize("family", ["gpt2", "llama", "mamba2", "qwen3_next"])
    def test_a_later_token_changes_no_earlier_score_of_a_foreign_model(self, shared, family):
        self.check(foreign(shared, family))

    @staticmethod
    def check(model):
        tokens = random_ids(1, 81)
        before = dynamic(model, tokens)
        for place in (20, 32, 33, 79):
            changed = tokens.clone()
            changed[0, place] = (tokens[0, place] + 1) % 61
            after = dynamic(model, changed)
            np.testing.assert_array_equal(before[:, : place - 1], after[:, : place - 1])
            assert not np.array_equal(before[:, place - 1 :], after[:, place - 1 :])

    def test_a_score_changes_with_the_steps_before_it_but_not_in_the_first_segment(self, tiny_model):
        tokens = random_ids(2, 81)
        full, adapted = token_nll(tiny_model, tokens), dynamic(tiny_model, tokens)
        np.testing.assert_allclose(adapted[:, :SEGMENT], full[:, :SEGMENT], atol=5e-5)
        assert (np.abs(adapted - full)[:, SEGMENT:].max(axis=1) > 1e-4).all()

    def test_rate_zero_equals_full(self, tiny_model):
        """In float64, because some memories amplify the rounding of another batch size."""
        model, tokens = copy.deepcopy(tiny_model).double(), random_ids(2, 83)
        for segment in (5, 16, 200):
            adapted = dynamic(model, tokens, learning_rate=0.0, decay=0.5, segment=segment)
            np.testing.assert_allclose(adapted, token_nll(model, tokens), atol=1e-5)

    @pytest.mark.parametrize("family", ["gpt2", "llama", "mamba2", "qwen3_next"])
    def test_rate_zero_equals_full_in_a_foreign_model(self, shared, family):
        model, tokens = foreign(shared, family), random_ids(2, 100)
        for segment in (7, 32):
            adapted = dynamic(model, tokens, learning_rate=0.0, segment=segment)
            np.testing.assert_allclose(adapted, token_nll(model, tokens), atol=2e-4)

    def test_a_sequence_does_not_depend_on_the_others(self, tiny_model):
        tokens = random_ids(3, 60)
        together = dynamic(tiny_model, tokens)
        alone = np.concatenate([dynamic(tiny_model, row[None]) for row in tokens])
        np.testing.assert_array_equal(together, alone)

    def test_training_on_the_same_text_again_helps(self):
        """A model that adapts predicts a repeated text better than one that does not."""
        model, tokens = small_model(architecture="sw"), random_ids(1, 20).repeat(1, 12)
        assert dynamic(model, tokens)[:, 100:].mean() < token_nll(model, tokens)[:, 100:].mean() - 0.5


class TestDirectLoops:
    """The same numbers from loops that share no code with the package."""

    def test_sgd_on_one_of_our_models(self):
        model, tokens = small_model(share_qk=True, pre_conv=True), random_ids(2, 70)
        measured = dynamic(model, tokens, decay=0.1)
        start = {name: each.detach().clone() for name, each in model.named_parameters()}
        for row, expected in zip(tokens, measured, strict=True):
            model.load_state_dict(start, strict=False)
            state, scores = model.initial_state(1), []
            for first in range(0, 69, SEGMENT):
                inputs, targets = row[first : first + SEGMENT][: 69 - first], row[first + 1 : first + SEGMENT + 1]
                logits, state = model.step(inputs[None], state)
                losses = F.cross_entropy(logits[0], targets, reduction="none")
                scores += losses.tolist()
                model.zero_grad()
                losses.mean().backward()
                state = state.detach()
                with torch.no_grad():
                    for name, each in model.named_parameters():
                        each += 0.1 * (start[name] - each) - RATE * each.grad
            np.testing.assert_allclose(expected, scores, atol=1e-5)

    def test_sgd_on_a_model_of_transformers(self, shared):
        model, tokens = foreign(shared), random_ids(1, 70)
        (measured,) = dynamic(model, tokens)
        module, cache, scores = model.module, None, []
        names = inspect.signature(module.forward).parameters
        name = "cache" if "cache" in names else "past_key_values"
        for first in range(0, 69, SEGMENT):
            inputs, targets = tokens[:, first : first + SEGMENT][:, : 69 - first], tokens[0, first + 1 :][:SEGMENT]
            result = module(input_ids=inputs, use_cache=True, **{name: cache})
            losses = F.cross_entropy(result.logits[0], targets, reduction="none")
            scores += losses.tolist()
            module.zero_grad()
            losses.mean().backward()
            cache = getattr(result, name)
            for layer in cache.layers:
                layer.keys, layer.values = layer.keys.detach(), layer.values.detach()
            with torch.no_grad():
                for each in module.parameters():
                    each -= RATE * each.grad
        np.testing.assert_allclose(measured, scores, atol=1e-5)

    def test_one_step_of_the_rms_rule(self):
        parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        rms = torch.tensor([0.0, 1.0, 2.0])
        config = DynamicConfig(learning_rate=0.5, decay=0.6, optimizer="rms")
        adaptation = Adaptation({"w": parameter}, config, {"w": rms})
        adaptation.step((parameter * torch.tensor([1.0, 1.0, 4.0])).sum())
        first = [1 - 0.5 * 1 / 0.1, 2 - 0.5 * 1 / 1.1, 3 - 0.5 * 4 / 2.1]  # the average RMS is 1
        np.testing.assert_allclose(parameter.detach(), first, rtol=1e-6)
        adaptation.step(0.0 * parameter.sum())
        pulls = np.array([0.0, 0.6, 1.0])  # 0.6 times RMS, at most 1
        np.testing.assert_allclose(parameter.detach(), first + pulls * (np.array([1.0, 2, 3]) - first), rtol=1e-6)
        adaptation.restore()
        assert parameter.tolist() == [1.0, 2.0, 3.0]

    def test_the_rms_of_gradients_is_that_of_segments_spread_over_the_training_text(
        self, text_data, text_model, monkeypatch
    ):
        monkeypatch.setattr("tttkit.evaluate.dynamic._RMS_SEGMENTS", 3)
        split = open_split(text_data, "train")
        most = (split.num_tokens - 1) // 50
        squares = []
        for index in (0, (most - 1) // 2, most - 1):
            tokens = torch.from_numpy(split.tokens(50 * index, 50 * index + 51).astype(np.int64))
            text_model.zero_grad()
            text_model(tokens[None, :-1], targets=tokens[None, 1:]).backward()
            squares.append(text_model.model.norm.weight.grad.square())
        text_model.zero_grad()
        config = DynamicConfig(learning_rate=0.1, optimizer="rms", segment=50)
        measured = gradient_rms(text_model, config, split)["model.norm.weight"]
        torch.testing.assert_close(measured, torch.stack(squares).mean(0).sqrt(), rtol=1e-3, atol=1e-7)


class TestWeights:
    @pytest.mark.parametrize("fields", [{}, {"decay": 0.2}, {"parameters": "norms"}])
    def test_weights_flags_and_mode_are_as_before(self, tiny_model, fields):
        before, flags = weights_of(tiny_model), [each.requires_grad for each in tiny_model.parameters()]
        tiny_model.train()
        dynamic(tiny_model, random_ids(2, 50), **fields)
        assert_same_bits(before, weights_of(tiny_model))
        assert [each.requires_grad for each in tiny_model.parameters()] == flags
        assert tiny_model.training
        tiny_model.eval()

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_weights_come_back_when_something_is_raised(self, tiny_model, error):
        before, calls = weights_of(tiny_model), []

        def stop(share):
            calls.append(share)
            if len(calls) == 3:
                assert not all(torch.equal(each, before[name]) for name, each in weights_of(tiny_model).items())
                raise error

        with pytest.raises(error):
            token_nll(tiny_model, random_ids(2, 81), "dynamic", dynamic=rule(), progress=stop)
        assert_same_bits(before, weights_of(tiny_model))

    def test_half_precision_weights_accumulate_small_steps_and_come_back(self, shared):
        model = load_scoring_model(shared / "golden" / "ops" / "models" / "llama", "bf16")
        before, tokens = weights_of(model), random_ids(1, 20).repeat(1, 20)
        small = dynamic(model, tokens, learning_rate=0.002)
        assert_same_bits(before, weights_of(model))
        assert small[:, 200:].mean() < token_nll(model, tokens)[:, 200:].mean() - 0.01

    def test_weights_that_diverge_are_an_error_and_come_back(self, tiny_model):
        before = weights_of(tiny_model)
        with pytest.raises(NumericalError, match="`dynamic` diverged: the NLL of positions") as e:
            dynamic(tiny_model, random_ids(1, 200), learning_rate=1e30)
        assert "tune-dynamic" in e.value.hint
        assert_same_bits(before, weights_of(tiny_model))


class TestResets:
    def test_at_each_document_the_weights_go_back_and_the_state_goes_on(self):
        model, tokens = small_model(architecture="transformer"), random_ids(1, 91) % 60
        tokens[0, 40] = 60
        by_document = dataclasses.replace(rule(reset="document"), eos_id=60)
        nll = token_nll(model, tokens, "dynamic", dynamic=by_document)
        full = token_nll(model, tokens)
        np.testing.assert_allclose(nll[:, 40 : 40 + SEGMENT], _after(model, tokens, 40)[:, :SEGMENT], atol=1e-5)
        assert np.abs(nll - full)[:, 40 + SEGMENT :].max() > 1e-3
        np.testing.assert_allclose(nll[:, :40], dynamic(model, tokens)[:, :40], atol=1e-5)
        assert not np.allclose(nll[:, 40:], dynamic(model, tokens)[:, 40:])

    def test_a_bos_is_not_scored(self, shared):
        model, tokens = foreign(shared), random_ids(1, 60)
        with_bos = token_nll(model, tokens, "dynamic", dynamic=rule(learning_rate=0.0), bos="always")
        np.testing.assert_allclose(with_bos, token_nll(model, tokens, bos="always"), atol=1e-5)


def _after(model, tokens, position):
    """Return the NLL from a position on that start weights give to the state which learning weights left."""
    states = []
    carry = type(model).carry

    class Keep(type(model)):
        def carry(self, windows, state, **details):
            nll, after = carry(self, windows, state, **details)
            states.append(after)
            return nll, after

    original, model.__class__ = model.__class__, Keep
    try:
        dynamic(model, tokens[:, : position + 1])
    finally:
        model.__class__ = original
    with torch.no_grad():
        return model.carry(tokens[:, position:], states[-1].detach())[0].numpy()


class TestChoices:
    def test_words_and_expressions(self):
        model = small_model(num_hidden_layers=3)
        names = set(dict(model.named_parameters()))
        assert set(select_parameters(model, "all")) == names
        norms = set(select_parameters(model, "norms"))
        assert {"model.norm.weight", "model.layers.0.seq_norm.weight"} <= norms
        assert not any("mlp" in name or "embed" in name for name in norms)
        last = set(select_parameters(model, "mlp:last:2"))
        assert last == {name for name in names if ".mlp." in name and ".layers.0." not in name}
        assert len(last) == 6
        assert set(select_parameters(model, r"layers\.1\..*weight")) == {
            n for n in names if ".1." in n and "weight" in n
        }

    @pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3_next"])
    def test_words_name_the_parts_of_foreign_models(self, shared, family):
        module = foreign(shared, family).module
        norms, mlps = (set(select_parameters(module, choice)) for choice in ("norms", "mlp:last:1"))
        assert norms
        assert mlps
        assert not norms & mlps
        assert all("mlp" in name for name in mlps)

    def test_an_unknown_choice_is_named(self):
        model = small_model()
        with pytest.raises(UsageError, match="no weight of the model is among `nothing`") as e:
            dynamic(model, random_ids(1, 40), parameters="nothing")
        assert "model.embed_tokens.weight" in e.value.hint

    def test_only_the_chosen_weights_require_gradients(self):
        model = small_model()
        with gradients_of(model, "norms") as chosen:
            assert {name for name, each in model.named_parameters() if each.requires_grad} == set(chosen)
        assert all(each.requires_grad for each in model.parameters())

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"learning_rate": float("nan")}, "learning rate of `dynamic` must be at least 0, got nan"),
            ({"learning_rate": -1.0}, "at least 0"),
            ({"decay": 1.5}, "decay of `dynamic` must be in 0 … 1, got 1.5"),
            ({"segment": 0}, "segment of `dynamic`"),
            ({"optimizer": "adam"}, "optimizer of `dynamic` must be one of sgd, rms, got `adam`"),
            ({"reset": "never"}, "reset of `dynamic` must be one of sequence, document"),
            ({"parameters": "("}, "must be a regular expression"),
        ],
    )
    def test_settings_without_meaning_are_refused(self, fields, message):
        with pytest.raises(UsageError, match=message):
            DynamicConfig(**{"learning_rate": 0.1, **fields})

    def test_what_the_context_needs_is_named(self, shared):
        with pytest.raises(ValueError, match="dynamic must be a DynamicRule"):
            token_nll(small_model(), random_ids(1, 40), "dynamic")
        with pytest.raises(UsageError, match="needs the RMS of the gradients"):
            dynamic(small_model(), random_ids(1, 40), optimizer="rms")
        with pytest.raises(UsageError, match="which the rwkv cannot"):
            dynamic(foreign(shared, "rwkv"), random_ids(1, 40))
        with pytest.raises(UsageError, match="needs a training split"):
            dynamic_rule(small_model(), DynamicConfig(learning_rate=0.1, optimizer="rms"), None, 0)


def test_settings_are_said_in_one_line():
    config = DynamicConfig(learning_rate=1e-3, optimizer="rms", parameters="mlp:last:3")
    assert str(config) == "rms on mlp:last:3, rate 0.001, decay 0, segments of 64, reset at each sequence"
    assert json.loads(json.dumps(dataclasses.asdict(config)))["segment"] == 64
