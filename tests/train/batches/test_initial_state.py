"""Contiguous and passed states: what each window starts from, what is learned, and which rows start from zero."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.models.small import MEMORIES, assert_close, exact_model
from tttkit.config.run import TrainConfig, build_config
from tttkit.data import open_split
from tttkit.errors import UsageError
from tttkit.models.state import is_memory
from tttkit.train.batches.curriculum import stages_of
from tttkit.train.batches.initial_state import ContiguousStates, PassedStates, first_step_with_states

WINDOW = 16
VARIANTS = {
    "linear": {},
    "mlp": {"ttt_layer_type": "mlp"},
    "conv": {"share_qk": True, "pre_conv": True},
    "decay": {"state_decay": 0.6, "decay_window": WINDOW},
    "learned": {"state_decay": 0.6, "decay_window": WINDOW, "learn_state_decay": True},
}
variants = pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
every_state = pytest.mark.parametrize("fields", [*VARIANTS.values(), *MEMORIES.values()], ids=[*VARIANTS, *MEMORIES])


@pytest.fixture
def states_of(tiny_data):
    def build(fields=None, **options):
        model = exact_model(vocab_size=300, mini_batch_size=8, **(fields or {}))
        train = TrainConfig(**{"window": WINDOW, "batch_size": 3, "initial_state": "contiguous", "seed": 1, **options})
        return model, ContiguousStates(model, open_split(tiny_data, "train"), train, stages_of(train)[0])

    return build


@pytest.fixture
def passed_of():
    def build(fields=None, **options):
        model = exact_model(vocab_size=300, **{"mini_batch_size": 8, **(fields or {})})
        train = TrainConfig(**{"window": WINDOW, "batch_size": 3, "initial_state": "passed", "seed": 1, **options})
        return model, PassedStates(model, train, stages_of(train)[0])

    return build


def logits_of(states, inputs):
    """Read the next windows of the update, as the updater does, but return their logits."""
    logits, after = states._model(inputs, state=states.next_states(len(inputs)))
    states.add(after)
    return logits


def begin(states, step):
    tokens, resets = states.read(step, None)
    states.begin_update(step, resets)
    return tokens


def loss_of(states, tokens):
    logits = logits_of(states, tokens[:, :-1])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


@every_state
def test_logits_of_contiguous_windows_equal_one_long_pass(states_of, tiny_data, fields):
    """The weights are fixed. Rows whose document ends on the way are left out, because they start from zero there."""
    model, states = states_of(fields)
    windows, parts = [], []
    with torch.no_grad():
        for step in range(1, 9):
            tokens = begin(states, step)
            windows.append(tokens[:, :-1])
            parts.append(logits_of(states, tokens[:, :-1]))
            states.end_update(applied=True)
            assert states._state.position == WINDOW, "always the same: compiled code is made for one position"
        eos = open_split(tiny_data, "train").eos_id
        whole = [row for row, ids in enumerate(torch.cat(windows, 1)) if eos not in ids]
        assert whole
        expected = model(torch.cat(windows, dim=1)[whole])
    assert_close(torch.cat(parts, dim=1)[whole], expected)
    fresh = model(windows[-1])
    assert (parts[-1] - fresh)[whole].abs().max() > 1e-3


@variants
def test_initial_fast_weights_receive_a_gradient_at_every_step(states_of, fields):
    model, states = states_of(fields)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    names = ["W1", "b1"] + ["W2", "b2"] * (model.config.ttt_layer_type == "mlp")
    for step in range(1, 6):
        loss_of(states, begin(states, step)).backward()
        states.end_update(applied=True)
        for layer in model.model.layers:
            block = layer.seq_modeling_block
            assert all(block.get_parameter(name).grad.abs().sum() > 0 for name in names)
            if model.config.learn_state_decay and step > 1:
                assert block.learnable_state_decay.grad.abs().sum() > 0
        before = model.model.layers[0].seq_modeling_block.W1.detach().clone()
        optimizer.step()
        optimizer.zero_grad()
        assert not torch.equal(before, model.model.layers[0].seq_modeling_block.W1)
    assert not any(tensor.requires_grad for tensor in states.tensors().values())


def read(states, step):
    """Apply one update; return its logits and the size of the state of each row before it."""
    tokens = begin(states, step)
    sizes = states._before.layers[0]["delta1"].flatten(1).abs().sum(1)
    with torch.no_grad():
        logits = logits_of(states, tokens[:, :-1])
    states.end_update(applied=True)
    return logits, sizes


def test_a_row_starts_from_zero_after_its_document_ended(states_of):
    _, states = states_of()
    seen = 0
    for step in range(1, 120):
        _, ended = states._sampler.batch(step - 1)
        _, sizes = read(states, step)
        if step > 1:
            assert torch.equal(sizes == 0, ended)
            seen += int(ended.sum())
    assert seen > 3


def test_rows_that_always_start_from_zero_and_rows_reset_by_chance(states_of):
    _, states = states_of(batch_size=4, initial_state_zero_share=0.5)
    for step in range(1, 6):
        _, sizes = read(states, step)
        assert (sizes[:2] == 0).all()
    assert (sizes[2:] > 0).any()
    _, states = states_of(batch_size=8, initial_state_reset=0.5)
    fresh = torch.cat([read(states, step)[1] == 0 for step in range(1, 40)][1:])
    assert 0.4 < fresh.float().mean() < 0.65  # 304 draws, and some documents end
    assert all(0 < share < 1 for share in fresh.view(-1, 8).float().mean(0)), "every step draws its own rows"
    _, again = states_of(batch_size=8, initial_state_reset=0.5)
    assert torch.equal(torch.cat([read(again, step)[1] == 0 for step in range(1, 40)][1:]), fresh)


def test_accumulation_reads_the_rows_that_one_batch_reads(states_of):
    _, whole = states_of(batch_size=4)
    _, parts = states_of(batch_size=2, grad_accumulation=2)
    for step in range(1, 4):
        expected, _ = read(whole, step)
        tokens = begin(parts, step)
        with torch.no_grad():
            logits = torch.cat([logits_of(parts, part[:, :-1]) for part in tokens.split([1, 3])])
        parts.end_update(applied=True)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_an_attempt_that_did_not_end_leaves_no_trace(states_of):
    _, states = states_of()
    _, other = states_of()
    for each in (states, other):
        read(each, 1)
    with torch.no_grad():
        # for example, memory ran out after two rows
        logits_of(states, begin(states, 2)[:2, :-1])
    assert torch.equal(read(states, 2)[0], read(other, 2)[0])
    states.forget()
    assert (read(states, 3)[1] == 0).all()
    states.end_update(applied=False)
    assert (read(states, 4)[1] == 0).all()


@pytest.mark.parametrize("fields", [{}, {"share_qk": True, "pre_conv": True, "ttt_layer_type": "mlp"}])
def test_saved_states_continue_bit_for_bit(states_of, fields):
    _, states = states_of(fields)
    _, resumed = states_of(fields)
    assert states.tensors() == {}
    for step in range(1, 4):
        read(states, step)
    saved = {name: tensor.clone() for name, tensor in states.tensors().items()}
    assert all(name.startswith("initial_state.") and "pending" not in name for name in saved)
    expected = [read(states, step)[0] for step in (4, 5)]
    resumed.load({**saved, "model.norm": torch.zeros(1)})
    assert all(torch.equal(read(resumed, step)[0], logits) for step, logits in zip((4, 5), expected, strict=True))
    resumed.load({})
    assert (read(resumed, 6)[1] == 0).all()


WITH_CACHES = {"pattern": ["ttt-linear", "sw"], "pre_conv": True, "share_qk": True}


@pytest.mark.parametrize("fields", [WITH_CACHES, {}, *MEMORIES.values()], ids=["hybrid", "linear", *MEMORIES])
def test_passed_memories_start_the_windows_of_another_text(passed_of, fields):
    """The caches of the last tokens start empty; the memories are those after the last update, row by row."""
    model, states = passed_of(fields)
    shuffled = torch.randint(0, 300, (3, 3, WINDOW + 1), generator=torch.Generator().manual_seed(0))
    after = model.initial_state(3)
    for step, windows in enumerate(shuffled, start=1):
        tokens, resets = states.read(step, windows)
        assert torch.equal(tokens, windows)
        assert not resets.any()
        states.begin_update(step, resets)
        before = states.first_states(3)
        assert before.position == WINDOW
        for layer, last in zip(before.layers, after.layers, strict=True):
            for name, tensor in layer.items():
                assert torch.equal(tensor, last[name] if is_memory(name) else torch.zeros_like(tensor)), name
        with torch.no_grad():
            _, after = model(tokens[:, :-1], state=states.next_states(3))
        states.add(after)
        states.end_update(applied=True)
    memories = [x for layer in states._state.layers for name, x in layer.items() if is_memory(name)]
    assert memories
    assert all(memory.abs().sum() > 0 for memory in memories)


def test_passed_memories_continue_bit_for_bit_and_are_no_contiguous_states(passed_of, states_of):
    _, states = passed_of()
    _, resumed = passed_of()
    read_shuffled(states, 1)
    resumed.load(states.tensors())
    for step in (2, 3):
        assert torch.equal(read_shuffled(states, step), read_shuffled(resumed, step))
    _, contiguous = states_of()
    contiguous.load(states.tensors())
    assert contiguous.tensors() == {}, "a branch that reads contiguous text does not continue states of another text"


def read_shuffled(states, step):
    windows = torch.randint(0, 300, (3, WINDOW + 1), generator=torch.Generator().manual_seed(step))
    tokens, resets = states.read(step, windows)
    states.begin_update(step, resets)
    with torch.no_grad():
        logits = logits_of(states, tokens[:, :-1])
    states.end_update(applied=True)
    return logits


def test_states_begin_where_the_run_says():
    train = TrainConfig(max_steps=100, initial_state="contiguous", initial_state_from=0.8)
    assert first_step_with_states(train) == 81
    assert first_step_with_states(dataclasses.replace(train, initial_state_from=0.0)) == 1
    assert first_step_with_states(TrainConfig()) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"train": {"initial_state": "contiguous"}, "model": {"architecture": "sw"}},
            "needs a model with a recurrent state, which sw has not",
        ),
        ({"train": {"initial_state": "fitted"}, "model": {"architecture": "sw"}}, "initial_state fitted needs a model"),
        ({"train": {"initial_state_decay": 0.5}}, "initial_state_decay needs an initial state other than zero"),
        ({"train": {"initial_state_noise": 0.4}}, "initial_state_noise needs train.initial_state fitted or gaussian"),
        ({"train": {"initial_state": "passed", "initial_state_noise": 0.4}}, "needs train.initial_state fitted or"),
        ({"train": {"initial_state": "contiguous", "initial_state_decay": 1.5}}, "initial_state_decay"),
        ({"train": {"carry": "lane"}}, "train.initial_state: "),
        ({"train": {"initial_state_from": 1.0}}, "initial_state_from"),
    ],
)
def test_contradictions_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        build_config(values)
