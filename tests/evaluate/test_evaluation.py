"""One evaluation of a tiny model on real text: its files, keys and figures, and the errors of bad requests."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.models.small import small_model
from tttkit.config.run import EvaluationConfig
from tttkit.data import open_split, prepare_dataset
from tttkit.errors import DataError, UsageError
from tttkit.evaluate import chunk_perplexity, evaluate_model, measure, paired_bootstrap, token_nll
from tttkit.evaluate.evaluation import write_evaluation
from tttkit.evaluate.sequences import cut_sequences

W, K, T, B = 16, 8, 330, 3
CONTEXTS = ("full", "sw", "sw_aligned", "reset")
EARLIER_SYSTEM_KEYS = {
    "training_window", "eval_max_length", "chunk_size", "chunk_stride", "num_sequences", "improvement_mean",
    *(f"{prefix}_ppl_{name}" for prefix in ("ttt", "sw") for name in ("mean", "min", "max")),
    *(f"{name}_at_{m}xW" for name in ("ttt_ppl", "sw_ppl", "x_pos", "improvement") for m in (1, 2, 5, 10, 20)),
}  # fmt: skip
OUR_KEYS = {
    "schema_version", "aggregate", "sw_mode", "tokens_per_chunk", "selection_ppl", "sequence_choice", "num_documents",
    "selection_windows",
    *(f"{prefix}_ppl_corpus" for prefix in ("ttt", "sw", "sw_aligned", "reset")),
    *(f"{prefix}_ppl_at_{m}xW" for prefix in ("sw_aligned", "reset") for m in (1, 2, 5, 10, 20)),
    *(f"{prefix}ratio{which}_at_{m}xW" for prefix in ("", "sw_aligned_", "reset_")
      for which in ("", "_ci_low", "_ci_high", "_document_ci_low", "_document_ci_high") for m in (1, 2, 5, 10, 20)),
}  # fmt: skip
FROM_THE_CALLER = {"checkpoint_idx": 3, "step": 120, "training_loss": 2.5}


def protocol(**values) -> EvaluationConfig:
    sizes = {"max_length": T, "num_sequences": B, "chunk_size": K, "chunk_stride": K, "selection_windows": 20}
    return EvaluationConfig(**{**sizes, "num_resamples": 200, **values})


@pytest.fixture(scope="module")
def exact(text_model, validation_split):
    return evaluate_model(text_model, validation_split, protocol(sw_mode="exact"), window=W)


@pytest.fixture(scope="module")
def at_labels(text_model, validation_split):
    return evaluate_model(text_model, validation_split, protocol(), window=W)


@pytest.fixture(scope="module")
def starts(validation_split):
    """The first, middle and last start among the multiples of T+1."""
    last = validation_split.num_tokens // (T + 1) - 1
    return [0, last // 2 * (T + 1), last * (T + 1)]


@pytest.fixture(scope="module")
def sequences(validation_split, starts):
    return np.stack([validation_split.tokens(start, start + T + 1) for start in starts]).astype(np.int64)


def strict_json(path):
    def refuse(constant):
        raise AssertionError(f"{path} holds {constant}")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_the_sequences_are_disjoint_in_order_and_spread_over_the_split(exact, text_model, sequences):
    for context in CONTEXTS:
        expected = token_nll(text_model, sequences, context, window=W)
        np.testing.assert_allclose(exact.nll[context], expected, atol=1e-5)


def test_the_summary_has_every_key_of_the_earlier_system_and_ours(exact, tmp_path):
    summary = write_evaluation(tmp_path / "checkpoint_003", exact, FROM_THE_CALLER).to_dict()
    assert set(summary) == EARLIER_SYSTEM_KEYS | OUR_KEYS | set(FROM_THE_CALLER)
    assert None not in summary.values()
    assert summary["step"] == 120


def test_the_summarys_figures(exact):
    summary = exact.summary().to_dict()
    chunks = {context: chunk_perplexity(exact.nll[context], W, K, K) for context in CONTEXTS}
    assert summary["sw_ppl_mean"] == pytest.approx(chunks["sw"].perplexity.mean())
    assert summary["ttt_ppl_min"] == pytest.approx(chunks["full"].perplexity.min())
    assert summary["improvement_mean"] == pytest.approx((chunks["sw"].perplexity - chunks["full"].perplexity).mean())
    assert summary["tokens_per_chunk"] == B * K
    assert summary["ttt_ppl_corpus"] == pytest.approx(math.exp(exact.nll["full"][:, W:].mean(dtype=np.float64)))
    for context, prefix in (("sw", ""), ("sw_aligned", "sw_aligned_"), ("reset", "reset_")):
        intervals = paired_bootstrap(exact.nll["full"], exact.nll[context], K, K, 200, 0)
        for multiple in (1, 2, 5, 10, 20):
            at, last = f"at_{multiple}xW", multiple * W // K - 1
            assert summary[f"x_pos_{at}"] == multiple * W - K // 2
            assert summary[f"{prefix or 'sw_'}ppl_{at}"] == pytest.approx(chunks[context].perplexity[last])
            assert summary[f"{prefix}ratio_{at}"] == pytest.approx(intervals.ratio[last])
            assert summary[f"{prefix}ratio_ci_low_{at}"] == pytest.approx(intervals.ratio_low[last])
            assert summary[f"{prefix}ratio_ci_high_{at}"] == pytest.approx(intervals.ratio_high[last])
        assert summary[f"{prefix}ratio_at_1xW"] == pytest.approx(1.0, abs=1e-5)
    expected = summary["sw_ppl_at_5xW"] - summary["ttt_ppl_at_5xW"]
    assert summary["improvement_at_5xW"] == pytest.approx(expected)


@pytest.mark.parametrize("sw_mode", ["positions", "exact"])
def test_attention_has_its_windows_computed_once(validation_split, sequences, monkeypatch, sw_mode):
    model = small_model(vocab_size=validation_split.vocab_size, architecture="transformer")
    direct = token_nll(model, sequences, "sw", window=W)
    asked = []

    def watched(model, tokens, context="full", **options):
        asked.append(context)
        return token_nll(model, tokens, context, **options)

    monkeypatch.setattr(measure, "token_nll", watched)
    found = evaluate_model(model, validation_split, protocol(sw_mode=sw_mode), window=W).nll
    assert asked == ["full", "full", "reset", "sw_aligned"]
    nll = found["sw"]
    np.testing.assert_array_equal(nll, found["sw_aligned"])
    known = np.isfinite(nll)
    assert known.all() == (sw_mode == "exact")
    assert known[:, 20 * W - K : 20 * W].all()
    np.testing.assert_allclose(nll[known], direct[known], atol=1e-5)


def test_selection_ppl_is_the_perplexity_at_1xw_over_windows_spread_over_the_split(exact, text_model, validation_split):
    num_windows = (validation_split.num_tokens - 1) // W
    assert num_windows > 20
    chosen = [index * (num_windows - 1) // 19 for index in range(20)]
    assert len(set(chosen)) == 20
    tokens = np.stack([validation_split.tokens(k * W, k * W + W + 1) for k in chosen]).astype(np.int64)
    nll = token_nll(text_model, tokens)[:, W - K :]
    assert exact.summary().to_dict()["selection_windows"] == 20
    assert exact.selection_ppl == pytest.approx(math.exp(nll.mean(dtype=np.float64)), rel=1e-6)


def test_the_labelled_positions_are_exact_and_the_rest_is_null(exact, at_labels, tmp_path):
    all_of_it, some = exact.summary().to_dict(), at_labels.summary().to_dict()
    unknown = {key for key, value in some.items() if value is None}
    assert unknown == {"sw_ppl_corpus", "sw_ppl_mean", "sw_ppl_min", "sw_ppl_max", "improvement_mean"}
    for key in set(some) - unknown - {"sw_mode", "aggregate", "sequence_choice"}:
        assert some[key] == pytest.approx(all_of_it[key], rel=1e-4), key
    write_evaluation(tmp_path, at_labels, {})
    curve = strict_json(tmp_path / "chunk_eval.json")["sw_mean_nll"]
    ends = K * (1 + np.flatnonzero([value is not None for value in curve]))
    assert ends.tolist() == [K, W, 2 * W, 5 * W, 10 * W, 20 * W]


def test_the_files_are_json_and_say_what_was_measured(exact, at_labels, tmp_path):
    for evaluation in (exact, at_labels):
        returned = write_evaluation(tmp_path, evaluation, {"training_loss": math.nan}).to_dict()
        summary, curves = strict_json(tmp_path / "summary.json"), strict_json(tmp_path / "chunk_eval.json")
        assert {**summary, "training_loss": None} == {**returned, "training_loss": None}
        assert curves["ends"] == list(range(K, T + 1, K))
        for context in CONTEXTS:
            assert len(curves[f"{context}_mean_nll"]) == len(curves["ends"])
        np.testing.assert_allclose(curves["full_mean_nll"], evaluation.chunks("full").mean_nll)


def test_labels_beyond_the_longest_sequence_are_absent(text_model, validation_split):
    summary = evaluate_model(text_model, validation_split, protocol(max_length=40), window=W).summary().to_dict()
    assert {key for key in summary if key.startswith("ttt_ppl_at")} == {"ttt_ppl_at_1xW", "ttt_ppl_at_2xW"}
    short = evaluate_model(text_model, validation_split, protocol(max_length=10), window=W).summary().to_dict()
    assert not [key for key in short if "_at_" in key]
    assert short["ttt_ppl_corpus"] is None
    assert short["ttt_ppl_mean"] > 1


@pytest.mark.parametrize("sw_mode", ["positions", "exact"])
def test_progress_grows_to_one_and_can_stop(text_model, validation_split, sw_mode):
    shares = []
    evaluate_model(text_model, validation_split, protocol(sw_mode=sw_mode), window=W, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0

    def stop(_share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_model(text_model, validation_split, protocol(), window=W, progress=stop)


def test_a_diverged_model_still_gives_files(text_model, validation_split, tmp_path):
    model = small_model(vocab_size=validation_split.vocab_size, scale=1.0)
    model.model.norm.weight.data.mul_(1e3)
    evaluation = evaluate_model(model, validation_split, protocol(), window=W)
    assert evaluation.selection_ppl == math.inf
    write_evaluation(tmp_path, evaluation, {})
    assert strict_json(tmp_path / "summary.json")["ttt_ppl_corpus"] == "Infinity"
    assert strict_json(tmp_path / "summary.json")["improvement_at_5xW"] is None


def test_more_sequences_than_the_split_holds_are_refused(text_model, validation_split):
    most = validation_split.num_tokens // (T + 1)
    with pytest.raises(UsageError, match=f"{most + 1} sequences were requested, but the split holds {most} ") as caught:
        evaluate_model(text_model, validation_split, protocol(num_sequences=most + 1), window=W)
    assert caught.value.exit_code == 2


def test_a_split_shorter_than_one_sequence_is_refused(text_model, validation_split):
    longer = validation_split.num_tokens
    expected = f"the split has {longer} tokens, but one sequence of T={longer} needs {longer + 1}"
    with pytest.raises(DataError, match=expected) as caught:
        evaluate_model(text_model, validation_split, protocol(max_length=longer), window=W)
    assert caught.value.exit_code == 65
    assert caught.value.hint


def test_a_split_shorter_than_one_window_is_refused(text_model, validation_split):
    longer = validation_split.num_tokens
    with pytest.raises(DataError, match=f"one window of W={longer} needs {longer + 1}"):
        evaluate_model(text_model, validation_split, protocol(), window=longer)


def test_data_of_another_tokenizer_is_refused(validation_split):
    with pytest.raises(DataError, match="tokenizer has 300 tokens, but the model knows 61") as caught:
        evaluate_model(small_model(), validation_split, protocol(), window=W)
    assert caught.value.exit_code == 65


@pytest.mark.parametrize(
    ("values", "window", "message"),
    [
        ({}, 3, "window must hold at least one inner mini-batch of the model, got 3 and 4"),
        ({"chunk_size": 17}, W, "evaluation.chunk_size must be at most 16"),
        ({"max_length": 7}, W, "evaluation.chunk_size must be at most 7"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(text_model, validation_split, values, window, message):
    with pytest.raises(UsageError, match=message) as caught:
        evaluate_model(text_model, validation_split, protocol(**values), window=window)
    assert caught.value.exit_code == 2


def test_some_sequences_are_among_all_and_all_are_the_whole_split(validation_split):
    most = validation_split.num_tokens // (T + 1)
    _, everywhere = cut_sequences(validation_split, most, T)
    assert everywhere.tolist() == list(range(0, most * (T + 1), T + 1))
    for count in range(1, most + 1):
        starts = cut_sequences(validation_split, count, T)[1].tolist()
        assert len(set(starts)) == count
        assert starts == sorted(set(starts) & set(everywhere.tolist()))
        assert (starts[0], starts[-1]) == (0, everywhere[-1] if count > 1 else 0)


def test_a_sequence_that_begins_with_a_document_belongs_to_it(text_model, tmp_path, text_tokenizer):
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text("def read(self, size):\n    return self.buffer[:size]\n" * 4)
    sources = [str(tmp_path / "a.txt")]
    prepare_dataset(sources, tmp_path / "data", text_tokenizer, validation=[str(tmp_path / "*.txt")])
    split = open_split(tmp_path / "data", "validation")
    length = int(split.document_ends[0])
    asked = protocol(max_length=length - 1, num_sequences=3)
    assert evaluate_model(text_model, split, asked, window=W).documents.tolist() == [0, 1, 2]


def test_intervals_over_documents_resample_whole_documents(exact):
    """The expected interval of Student's t for two sequences of one document and one of another is computed by hand."""
    apart = dataclasses.replace(exact, documents=np.array([4, 4, 7]))
    intervals = apart.document_intervals("reset")
    last = (T - K) // K
    window = slice(last * K, last * K + K)
    nll = {context: exact.nll[context][:, window].mean(axis=1, dtype=np.float64) for context in ("full", "reset")}
    difference = nll["reset"] - nll["full"]
    mean = difference.mean()
    residuals = np.array([difference[:2].sum() - 2 * mean, difference[2] - mean])
    half_width = 12.7062047 * np.sqrt(2 * (residuals**2).sum()) / 3
    ends = [mean - half_width, mean + half_width]
    assert [intervals.difference_low[last], intervals.difference_high[last]] == pytest.approx(ends, rel=1e-6)
    summary = apart.summary().to_dict()
    assert summary["num_documents"] == 2
    at_20 = 20 * W // K - 1
    assert summary["reset_ratio_document_ci_low_at_20xW"] == pytest.approx(intervals.ratio_low[at_20])
    assert summary["ratio_document_ci_high_at_20xW"] == pytest.approx(apart.document_intervals("sw").ratio_high[at_20])
    alone = dataclasses.replace(exact, documents=np.zeros(B, dtype=np.int64)).summary().to_dict()
    assert (alone["num_documents"], alone["ratio_document_ci_low_at_20xW"]) == (1, None)


def test_the_figures_are_means_of_the_nll_by_sequence(exact, validation_split, starts, tmp_path):
    write_evaluation(tmp_path, exact, FROM_THE_CALLER)
    arrays = load_file(tmp_path / "chunk_nll.safetensors")
    assert set(arrays) == {*CONTEXTS, "ends", "starts", "documents"}
    curves = strict_json(tmp_path / "chunk_eval.json")
    for context in CONTEXTS:
        assert arrays[context].shape == (B, len(curves["ends"]))
        np.testing.assert_allclose(arrays[context].mean(axis=0), curves[f"{context}_mean_nll"], rtol=1e-5)
    ends = validation_split.document_ends
    assert arrays["starts"].tolist() == starts
    assert [int(np.sum(ends <= start)) for start in starts] == arrays["documents"].tolist()
