"""Models of transformers as a `ScoringModel`: contexts against a plain loop, BOS, blocks of the head, precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.evaluate.test_nll import first_token_of_context
from tests.models.hugging_face.conftest import VOCAB_SIZE, transformers
from tests.models.small import random_ids, small_model
from tttkit.errors import DataError, UsageError
from tttkit.evaluate import token_nll
from tttkit.models import load_scoring_model, save_model
from tttkit.models.hugging_face.model import force_one_kernel

CONTEXTS = ("full", "sw", "sw_aligned", "reset")
W = 8


def nll_by_loop(directory, tokens, context, bos_id=None):
    """Run transformers itself once per position, over exactly the tokens that the position may see."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    nll = np.empty((tokens.shape[0], tokens.shape[1] - 1), dtype=np.float32)
    for position in range(nll.shape[1]):
        ids = tokens[:, first_token_of_context(context, position, W, 1) : position + 1]
        if bos_id is not None:
            ids = F.pad(ids, (1, 0), value=bos_id)
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits[:, -1]
        nll[:, position] = F.cross_entropy(logits, tokens[:, position + 1], reduction="none").numpy()
    return nll


@pytest.mark.parametrize("bos", ["never", "always"])
@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "mamba2", "gemma2", "opt", "gptj", "mpt", "bloom"])
def test_each_context_equals_a_loop_of_the_model_itself(save_small, family, context, bos):
    directory, tokens = save_small(family), random_ids(2, 28)
    model = load_scoring_model(directory)
    bos_id = 0 if bos == "always" else None
    nll = token_nll(model, tokens, context, window=W, bos=bos)
    np.testing.assert_allclose(nll, nll_by_loop(directory, tokens, context, bos_id), atol=1e-4)
    if bos == "always":
        assert np.abs(nll - token_nll(model, tokens, context, window=W)).max() > 1e-2


@pytest.mark.parametrize("bos", ["never", "always"])
def test_segments_and_blocks_of_the_head_do_not_change_the_result(save_small, monkeypatch, bos):
    model, tokens = load_scoring_model(save_small("gemma2")), random_ids(2, 60)
    whole = token_nll(model, tokens, "full", bos=bos)
    monkeypatch.setattr("tttkit.evaluate.runner.head_positions", lambda *_: 7)
    np.testing.assert_allclose(token_nll(model, tokens, "full", bos=bos), whole, atol=1e-4)
    np.testing.assert_allclose(token_nll(model, tokens, "full", bos=bos, segment=13), whole, atol=1e-4)


def test_only_scored_positions_go_through_the_head(save_small, monkeypatch):
    model, tokens = load_scoring_model(save_small()), random_ids(2, 40)
    seen = []
    model.module.get_output_embeddings().register_forward_hook(
        lambda _, __, logits: seen.append(logits[..., 0].numel())
    )
    monkeypatch.setattr("tttkit.evaluate.runner.head_positions", lambda *_: 5)
    token_nll(model, tokens, "sw", window=W)
    assert sum(seen) == 2 * 39
    assert max(seen) <= 5


def test_bos_is_added_where_the_tokenizer_adds_it(save_small):
    directory, tokens = save_small(), random_ids(2, 20)
    (directory / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    model = load_scoring_model(directory)
    assert model.adds_bos
    always, auto = (token_nll(model, tokens, "reset", window=W, bos=bos) for bos in ("always", "auto"))
    np.testing.assert_array_equal(auto, always)
    (directory / "tokenizer_config.json").write_text('{"add_bos_token": false}')
    model = load_scoring_model(directory)
    np.testing.assert_array_equal(
        token_nll(model, tokens, "reset", window=W, bos="auto"), token_nll(model, tokens, "reset", window=W)
    )


def test_a_bos_that_the_model_lacks_is_refused(save_small):
    model = load_scoring_model(save_small(bos_token_id=None))
    assert token_nll(model, random_ids(1, 9), bos="auto").shape == (1, 8)
    with pytest.raises(UsageError, match="bos must be auto or never, got always: the llama model has no BOS"):
        token_nll(model, random_ids(1, 9), bos="always")
    with pytest.raises(ValueError, match="bos must be one of auto, always, never, got 'yes'"):
        token_nll(model, random_ids(1, 9), bos="yes")


@pytest.mark.parametrize(
    ("family", "limit"), [("gpt2", 48), ("opt", 48), ("gptj", 48), ("mpt", 48), ("llama", None), ("bloom", None)]
)
def test_positions_that_end_are_noticed_and_a_bos_takes_one_of_them(save_small, family, limit):
    """They lie in an embedding, in a table that is no weight, or in a bias that is built at each pass."""
    model = load_scoring_model(save_small(family))
    assert model.max_positions == limit
    assert not np.isnan(token_nll(model, random_ids(1, 49), "full")).any()
    if limit is None:
        assert token_nll(model, random_ids(1, 400), "full").shape == (1, 399)
        return
    with pytest.raises(UsageError, match="must fit the model's 47 positions in every window, got 48 tokens"):
        token_nll(model, random_ids(1, 49), "full", bos="always")


def test_a_failure_inside_a_model_is_one_line(save_small, monkeypatch):
    model = load_scoring_model(save_small())

    def fail(*_, **__):
        raise RuntimeError("sizes do not fit\nand more")

    monkeypatch.setattr(model.module.model, "forward", fail)
    with pytest.raises(DataError, match="^the llama model fails on 1 x 8 tokens: sizes do not fit and more$"):
        token_nll(model, random_ids(1, 9))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_low_precision_stays_near_float32_and_nll_is_float32(save_small, tmp_path, dtype):
    save_model(small_model(), tmp_path / "ours")
    for directory in (save_small(), tmp_path / "ours"):
        exact, rounded = (load_scoring_model(directory, dtype=name) for name in ("fp32", dtype))
        nll = token_nll(rounded, random_ids(2, 30), "full")
        difference = np.abs(nll - token_nll(exact, random_ids(2, 30), "full"))
        assert nll.dtype == np.float32
        assert 0 < difference.mean() < 0.1
    assert load_scoring_model(save_small(), dtype="auto").dtype == torch.float32
    with pytest.raises(UsageError, match="unknown dtype `int8`"):
        load_scoring_model(directory, dtype="int8")


def test_the_digest_of_the_weights_is_that_of_the_file(save_small):
    """Two loads agree even after forward passes, which change the weights of some families in place."""
    directory = save_small()
    first, second = load_scoring_model(directory), load_scoring_model(directory)
    token_nll(first, random_ids(1, 30))
    assert first.weights_sha256() == second.weights_sha256() != load_scoring_model(save_small("gpt2")).weights_sha256()


def test_layers_of_fla_run_one_kernel_at_every_length():
    """Such a layer chooses its kernel by its own flag `training`; its dropout stays in evaluation mode."""
    layer = type("Layer", (torch.nn.Sequential,), {"__module__": "fla.layers.gla", "mode": "chunk"})
    model = torch.nn.Sequential(layer(torch.nn.Dropout()), torch.nn.Linear(2, 2)).eval()
    force_one_kernel(model)
    assert [part.training for part in model.modules()] == [False, True, False, False]


def test_the_vocabulary_is_the_rows_of_the_embedding(save_small):
    assert load_scoring_model(save_small()).vocab_size == VOCAB_SIZE
