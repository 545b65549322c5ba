"""Every context against a direct loop over positions, a foreign model, and errors for bad arguments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.small import VOCAB_SIZE, random_ids, small_model
from tttkit.errors import UsageError
from tttkit.evaluate import token_nll

CONTEXTS = ("full", "sw", "sw_aligned", "reset")
W = 8


def first_token_of_context(context: str, position: int, window: int, mini_batch: int) -> int:
    """Return where the context of a position begins, straight from the table of docs/protocol.md."""
    if context == "full":
        return 0
    if context == "reset":
        return position // window * window
    start = max(0, position - window + 1)
    return start if context == "sw" else -(-start // mini_batch) * mini_batch


def nll_by_loop(model, tokens: torch.Tensor, context: str, window: int) -> np.ndarray:
    """Run one forward pass per position, over exactly the tokens that the position may see."""
    nll = np.empty((tokens.shape[0], tokens.shape[1] - 1), dtype=np.float32)
    with torch.no_grad():
        for position in range(nll.shape[1]):
            start = first_token_of_context(context, position, window, model.config.mini_batch_size)
            logits = model(tokens[:, start : position + 1])[:, -1]
            chosen = torch.log_softmax(logits, dim=-1).gather(1, tokens[:, position + 1 :][:, :1])
            nll[:, position] = -chosen[:, 0].numpy()
    return nll


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(
    ("num_positions", "window"),
    [(32, W), (31, W), (27, W), (26, 6), (9, W), (5, W), (8, W), (1, W)],
    ids=lambda value: str(value),
)
def test_each_context_equals_the_loop_over_positions(tiny_model, context, num_positions, window):
    tokens = random_ids(3, num_positions + 1)
    nll = token_nll(tiny_model, tokens, context, window=window)
    assert nll.dtype == np.float32
    assert nll.shape == (3, num_positions)
    np.testing.assert_allclose(nll, nll_by_loop(tiny_model, tokens, context, window), atol=2e-4)


def test_the_contexts_differ_beyond_the_window():
    """Otherwise the comparison with the loop would prove little."""
    model, tokens = small_model(), random_ids(2, 33)
    by_context = [token_nll(model, tokens, context, window=W)[:, W:] for context in CONTEXTS]
    for index, one in enumerate(by_context):
        for other in by_context[index + 1 :]:
            assert np.abs(one - other).max() > 1e-2


def test_all_contexts_agree_before_the_window_when_each_is_computed_by_itself(tiny_model):
    """`full` from a later start of the text must agree with the other contexts, which compute it differently."""
    tokens = random_ids(2, 4 * W + 1)
    for start in (W, 2 * W):
        full = token_nll(tiny_model, tokens[:, start : start + W + 1], "full", window=W)
        reset = token_nll(tiny_model, tokens, "reset", window=W)[:, start : start + W]
        np.testing.assert_allclose(reset, full, atol=1e-4)
        last = token_nll(tiny_model, tokens, "sw", window=W)[:, start + W - 1]
        np.testing.assert_allclose(last, full[:, -1], atol=1e-4)
        stride = tiny_model.config.mini_batch_size
        aligned = token_nll(tiny_model, tokens, "sw_aligned", window=W)[:, start + W - stride : start + W]
        np.testing.assert_allclose(aligned, full[:, -stride:], atol=1e-4)


def test_aligned_windows_of_attention_are_plain_windows():
    model, tokens = small_model(architecture="transformer"), random_ids(2, 30)
    plain, aligned = (token_nll(model, tokens, context, window=W) for context in ("sw", "sw_aligned"))
    np.testing.assert_allclose(aligned, plain, atol=1e-5)


@pytest.mark.parametrize("context", CONTEXTS)
def test_only_the_requested_positions_are_computed(context):
    model, tokens = small_model(), random_ids(2, 41)
    positions = np.array([0, 7, 8, 21, 39])
    everything = token_nll(model, tokens, context, window=W)
    some = token_nll(model, tokens, context, window=W, positions=positions)
    np.testing.assert_allclose(some[:, positions], everything[:, positions], atol=1e-5)
    assert np.isnan(np.delete(some, positions, axis=1)).all()


@pytest.mark.parametrize("context", ["sw", "sw_aligned", "reset"])
def test_only_windows_of_requested_positions_are_run(context):
    model, tokens = small_model(), random_ids(2, 65)
    num_tokens = []
    hook = model.model.embed_tokens.register_forward_pre_hook(lambda _, ids: num_tokens.append(ids[0].numel()))
    token_nll(model, tokens, context, window=W, positions=np.array([20, 40]))
    hook.remove()
    assert sum(num_tokens) == 2 * (W + 2 * W)


@pytest.mark.parametrize(
    ("context", "read", "scored"),
    [("full", {25}, {25}), ("sw", {W}, {W, 1}), ("sw_aligned", {W, 5}, {W, 4, 1}), ("reset", {W, 1}, {W, 1})],
)
@pytest.mark.parametrize("part", ["mlp", "seq_modeling_block.o_proj"])
def test_the_last_layer_computes_the_scored_positions_only(context, read, scored, part):
    """All positions of the first window are scored in every context; the last window of the text is shorter."""
    model, tokens = small_model(use_gate=True), random_ids(2, 26)
    assert lengths_seen(model, part, lambda: token_nll(model, tokens, context, window=W)) == [read, scored]


@pytest.mark.parametrize("architecture", ["sw", "transformer"])
def test_the_last_attention_computes_queries_at_the_scored_positions_only(architecture):
    model, tokens = small_model(architecture=architecture), random_ids(2, 26)
    for part in ("seq_modeling_block.q_proj", "seq_modeling_block.o_proj", "mlp"):
        seen = lengths_seen(model, part, lambda: token_nll(model, tokens, "sw", window=W))
        assert seen == [{W}, {W, 1}], part


def lengths_seen(model, part, call):
    """Return the lengths that a part of each layer received during a call."""
    lengths: list[set[int]] = [set() for _ in model.model.layers]
    for layer, seen in zip(model.model.layers, lengths, strict=True):
        layer.get_submodule(part).register_forward_pre_hook(lambda _, x, seen=seen: seen.add(x[0].shape[1]))
    call()
    return lengths


def test_batches_do_not_change_the_result(monkeypatch):
    model, tokens = small_model(), random_ids(5, 30)
    whole = {context: token_nll(model, tokens, context, window=W) for context in CONTEXTS}
    monkeypatch.setattr("tttkit.evaluate.runner.batch_tokens", lambda *_: 3 * W)
    monkeypatch.setattr("tttkit.evaluate.runner.head_positions", lambda *_: 2)
    for context, expected in whole.items():
        np.testing.assert_allclose(token_nll(model, tokens, context, window=W), expected, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored_even_after_a_stop(training):
    class Stop(Exception):
        pass

    def stop(_share: float) -> None:
        assert not model.training
        raise Stop

    model = small_model().train(training)
    token_nll(model, random_ids(2, 20), "sw", window=W)
    assert model.training is training
    with pytest.raises(Stop):
        token_nll(model, random_ids(2, 20), "sw", window=W, progress=stop)
    assert model.training is training


@pytest.mark.parametrize("context", CONTEXTS)
def test_progress_grows_to_one(context, monkeypatch):
    monkeypatch.setattr("tttkit.evaluate.runner.batch_tokens", lambda *_: 4 * W)
    shares = []
    token_nll(small_model(), random_ids(3, 36), context, window=W, progress=shares.append)
    assert shares == sorted(set(shares))
    assert shares[-1] == 1.0
    assert 0 < shares[0] < 1


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int32, torch.int32, torch.int64])
def test_any_integer_type_is_accepted(dtype):
    model, tokens = small_model(), random_ids(2, 12)
    given = tokens.to(dtype) if isinstance(dtype, torch.dtype) else tokens.numpy().astype(dtype)
    np.testing.assert_array_equal(token_nll(model, given), token_nll(model, tokens))


class Bigram(torch.nn.Module):
    """A foreign model without any of our code: the logits of the next token are a row of a table.

    Its state, the number of tokens read, shifts them, so that contexts differ and a lost state shows.
    """

    vocab_size = VOCAB_SIZE
    mini_batch_size = 2
    can_carry = True

    def __init__(self, max_positions=None):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(VOCAB_SIZE, VOCAB_SIZE, generator=torch.Generator().manual_seed(0)))
        self.max_positions = max_positions
        self.calls = []

    @property
    def device(self):
        return self.table.device

    def bytes_per_token(self):
        return 4 * VOCAB_SIZE

    def score(self, windows, num_scored, *, head_positions=None):
        return self.carry(windows, None, head_positions=head_positions)[0][:, -num_scored:]

    def carry(self, windows, state, *, head_positions=None):
        assert not self.training
        assert windows.dtype == torch.int64
        assert head_positions >= 1
        self.calls.append(tuple(windows.shape))
        read = state or 0
        length = windows.shape[1] - 1
        strength = (1 + torch.arange(read, read + length)) ** -0.5
        log_probabilities = (self.table[windows[:, :-1]] * strength[:, None]).log_softmax(-1)
        return -log_probabilities.gather(-1, windows[:, 1:, None])[..., 0], read + length


def bigram_nll_by_loop(model, tokens, context, window):
    nll = np.empty((tokens.shape[0], tokens.shape[1] - 1), dtype=np.float32)
    for position in range(nll.shape[1]):
        start = first_token_of_context(context, position, window, model.mini_batch_size)
        logits = model.table[tokens[:, position]] * (position - start + 1) ** -0.5
        nll[:, position] = torch.nn.functional.cross_entropy(
            logits, tokens[:, position + 1], reduction="none"
        ).detach().numpy()  # fmt: skip
    return nll


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_foreign_model_is_scored_through_the_protocol_alone(context):
    model, tokens = Bigram(), random_ids(3, 28)
    nll = token_nll(model, tokens, context, window=W)
    np.testing.assert_allclose(nll, bigram_nll_by_loop(model, tokens, context, W), atol=1e-5)
    assert model.training, "its mode is restored"


@pytest.mark.parametrize("segment", [1, 5, 9, 27, 100])
def test_a_long_text_can_be_read_in_segments(segment):
    tokens = random_ids(3, 28)
    for model in (Bigram(), small_model(), small_model(architecture="transformer"), small_model(share_qk=True)):
        nll = token_nll(model, tokens, "full", window=W, segment=segment)
        np.testing.assert_allclose(nll, token_nll(model, tokens, "full", window=W), atol=1e-4)
    foreign = Bigram()
    token_nll(foreign, tokens, "full", window=W, segment=segment)
    assert max(length - 1 for _, length in foreign.calls) == min(segment, 27)
    assert sum(length - 1 for _, length in foreign.calls) == 27


def test_segments_bound_the_batch_instead_of_the_length(monkeypatch):
    monkeypatch.setattr("tttkit.evaluate.runner.batch_tokens", lambda *_: 12)
    model = Bigram()
    token_nll(model, random_ids(3, 28), "full", window=W, segment=4)
    assert {rows for rows, _ in model.calls} == {3}


def test_a_model_that_cannot_carry_its_state_reads_no_segments():
    model = Bigram()
    model.can_carry = False
    with pytest.raises(ValueError, match="^segment must be None for a model that cannot carry its state, got 4"):
        token_nll(model, random_ids(2, 12), segment=4)
    assert token_nll(model, random_ids(2, 12)).shape == (2, 11)


def test_windows_longer_than_the_positions_of_the_model_are_refused():
    tokens = random_ids(2, 28)
    with pytest.raises(UsageError, match="must fit the model's 20 positions in every window, got 27 tokens"):
        token_nll(Bigram(max_positions=20), tokens, "full", window=W)
    for context in CONTEXTS[1:]:
        assert not np.isnan(token_nll(Bigram(max_positions=W), tokens, context, window=W)).any()


GOOD = random_ids(2, 12)


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (TypeError, "tokens", {"tokens": [[1, 2, 3]]}),
        (TypeError, "tokens", {"tokens": GOOD.double()}),
        (TypeError, "tokens", {"tokens": GOOD.double().numpy()}),
        (TypeError, "tokens", {"tokens": GOOD > 3}),
        (TypeError, "tokens", {"tokens": (GOOD > 3).numpy()}),
        (ValueError, "tokens", {"tokens": GOOD[0]}),
        (ValueError, "tokens", {"tokens": GOOD[:, :1]}),
        (ValueError, "tokens", {"tokens": GOOD[:0]}),
        (ValueError, "tokens", {"tokens": torch.where(GOOD[0, 3] == GOOD, -100, GOOD)}),
        (ValueError, "tokens", {"tokens": torch.cat((GOOD, torch.full((2, 1), VOCAB_SIZE)), dim=1)}),
        (ValueError, "context", {"context": "window"}),
        (ValueError, "window", {"window": 0}),
        (TypeError, "window", {"window": 8.0}),
        (ValueError, "window", {"window": 3, "context": "sw_aligned"}),
        (ValueError, "segment", {"segment": 0}),
        (TypeError, "segment", {"segment": 2.5}),
        (TypeError, "positions", {"positions": np.array([0.5])}),
        (TypeError, "positions", {"positions": np.array([[1]])}),
        (TypeError, "positions", {"positions": np.ones(11, dtype=bool)}),
        (ValueError, "positions", {"positions": np.array([11])}),
        (ValueError, "positions", {"positions": np.array([-1])}),
    ],
)
def test_a_bad_argument_is_named(error, name, arguments):
    values = {"tokens": GOOD, "window": W, **arguments}
    with pytest.raises(error, match=f"^{name} must") as caught:
        token_nll(small_model(), values.pop("tokens"), **values)
    assert "got" in str(caught.value)
