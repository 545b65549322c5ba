"""Runs side by side: equal tokens, what differs, what is refused, bands over seeds, pairs by sequence."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from tests.analyze.conftest import r1
from tests.analyze.test_contexts import planted
from tttkit.analyze.compare import compare
from tttkit.analyze.record import load
from tttkit.analyze.training import crossover_step
from tttkit.errors import UsageError
from tttkit.run.directory import find_run


def level(shift):
    return planted(lambda context, _, c: shift)


def test_rows_at_equal_tokens_and_at_the_end(make_run):
    long, short = make_run([0, 100, 200], level(0.1), name="long"), make_run([0, 98], level(0.1), name="short")
    comparison = compare([long, short])
    assert [row["tokens"] for row in comparison.equal_tokens] == [100 * 2048, 98 * 2048]
    assert [row["step"] for row in comparison.end] == [200, 98]
    assert {"setting": "train.max_steps", "long": 200, "short": 98} in comparison.config_differences


def test_step_0_and_distant_evaluations_do_not_count_as_equal_tokens(make_run):
    long, short = make_run([0, 100, 200], level(0.1), name="long"), make_run([0, 50], level(0.1), name="short")
    assert compare([long, short]).equal_tokens == ()


def test_a_difference_between_runs_is_paired_by_sequence(make_run):
    def better(context, step, generator):
        return level(0.2)(context, step, generator) - 0.05

    comparison = compare([make_run([100], level(0.2), name="a"), make_run([100], better, name="b")])
    row = next(row for row in comparison.paired if (row["run"], row["context"]) == ("b", "full"))
    assert row["10xW"].startswith("0.951 [0.951, 0.951]")
    assert row["10xW"].endswith("<")


def test_a_recipe_is_judged_against_every_context_of_the_fresh_state_model(make_run):
    """The recipe's full context beats the other model's sw at 2 x W but not its reset; at 20 x W it beats all."""

    def fresh(context, step, generator):
        return planted(lambda c, _, chunk: -0.3 if chunk < 5 and c == "reset" else 0.3)(context, step, generator)

    def recipe(context, step, generator):
        return fresh(context, step, generator) - 0.1 * (context == "full")

    comparison = compare([make_run([0, 100], recipe, name="contiguous"), make_run([0, 100], fresh, name="fresh")])
    (row,) = comparison.verdicts
    assert row == {
        "full of contiguous against": "fresh", "1xW": "full of contiguous better", "2xW": "reset of fresh better",
        "5xW": "reset of fresh better", "10xW": "full of contiguous better",
        "20xW": "full of contiguous better",
    }  # fmt: skip
    (back,) = compare([make_run([0, 100], fresh, name="f"), make_run([0, 100], recipe, name="l")]).verdicts
    assert (back["2xW"], back["20xW"]) == ("reset of l better", "full of l better")


def move(evaluation, starts):
    """Write other starts of the sequences into the file of an evaluation."""
    path = evaluation.directory / "chunk_nll.safetensors"
    path.write_bytes(save({**load_file(path), "starts": np.asarray(starts, dtype=np.int64)}))


def test_sequences_with_different_starts_are_not_paired(make_run):
    runs = [make_run([0, 100], level(0.2), name=name) for name in ("a", "b")]
    places = 1281 * np.arange(64)
    for run in runs:
        for item in run.evaluations:
            move(item, places)
    assert {row["run"] for row in compare(runs).paired} == {"a", "b"}
    move(runs[1].evaluations[1], places + 1281)
    assert {row["run"] for row in compare(runs).paired} == {"a"}
    finding = crossover_step(runs[1])
    assert (finding.verdict, "different sequences" in finding.statement) == ("unknown", True)


@pytest.mark.parametrize(
    ("key", "value", "refused"),
    [
        ("data_fingerprint", "e" * 64, ["selection_ppl", "full 1xW", "best windowed 20xW"]),
        ("aggregate", "median", ["full 1xW", "best windowed 20xW"]),
        ("num_sequences", 99, []),
        ("selection_windows", 7, ["selection_ppl"]),
    ],
)
def test_figures_of_differing_protocols_are_refused_by_name(make_run, key, value, refused):
    comparison = compare([make_run([100], level(0.1), name="a"), make_run([100], level(0.1), name="b", **{key: value})])
    assert [row["setting"] for row in comparison.protocol_differences] == [key]
    assert [name for name in refused if comparison.end[0][name] != "refused"] == []
    assert ("refused" in comparison.end[0].values()) == bool(refused)
    assert bool(comparison.paired) == (key == "selection_windows")


def test_seeds_give_a_band(make_run):
    def nll(seed):
        return lambda context, step, generator: level(0.1)(context, step, generator) + 0.01 * seed

    runs = [make_run([100], nll(seed), name=f"s{seed}", seed=seed) for seed in (1, 2, 3)]
    (row,) = compare(runs).seeds
    assert (row["seeds"], row["runs"]) == (3, "s1, s2, s3")
    value, low, high = (float(part.strip("[],")) for part in row["full 20xW"].replace(",", "").split())
    logs = np.log([run.evaluations[-1].summary.perplexity("full", 20) for run in runs])
    reach = 4.3027 * logs.std(ddof=1) / np.sqrt(3)  # Student's t of two degrees of freedom
    expected = np.exp([logs.mean(), logs.mean() - reach, logs.mean() + reach])
    assert [value, low, high] == pytest.approx(expected, abs=0.01)


def test_incomparable_figures_of_an_earlier_run_are_refused(make_run, write):
    earlier = load(find_run(write("earlier/all_summaries.json", r1()).parent))
    comparison = compare([make_run([100], level(0.1)), earlier])
    assert comparison.equal_tokens == ()
    assert comparison.end[1]["full 1xW"] == "refused"
    assert {"aggregate", "data_fingerprint"} <= {row["setting"] for row in comparison.protocol_differences}


def test_one_run_is_not_enough_to_compare(make_run):
    with pytest.raises(UsageError, match="at least two runs"):
        compare([make_run([100], level(0.1))])


def test_runs_with_other_tokenizers_are_compared_by_bits_per_byte(make_run):
    text = {"text_bytes": 9000, "text_words": 1500}
    one = {**text, "tokenizer_sha256": "a" * 64, "data_fingerprint": "c" * 64, "bytes_per_token": 4.0}
    other = {**text, "tokenizer_sha256": "b" * 64, "data_fingerprint": "d" * 64, "bytes_per_token": 2.0}
    runs = [make_run([100], level(2.0), name="a", **one), make_run([100], level(1.0), name="b", **other)]
    comparison = compare(runs)
    first, second = comparison.end
    for record, row, size in zip(runs, (first, second), (4.0, 2.0), strict=True):
        perplexity = record.evaluations[-1].summary.perplexity("full", 5)
        assert row["full 5xW bits/byte"] == pytest.approx(np.log2(perplexity) / size)
        assert "full 5xW" not in row
        assert row["selection_ppl"] == "refused"
        assert row["best windowed 5xW bits/byte"].endswith(")")
    assert comparison.paired == ()
    (reason,) = (row["because"] for row in comparison.protocol_differences if row["setting"] == "data_fingerprint")
    assert reason == "the tokenizers differ: the tables show bits per byte of the same text"


def test_other_text_is_refused_even_with_bytes(make_run):
    one = {"tokenizer_sha256": "a" * 64, "data_fingerprint": "c" * 64, "bytes_per_token": 4.0, "text_words": 9}
    other = {**one, "tokenizer_sha256": "b" * 64, "data_fingerprint": "d" * 64}
    runs = [
        make_run([100], level(2.0), name="a", text_bytes=9000, **one),
        make_run([100], level(2.0), name="b", text_bytes=9001, **other),
    ]
    assert compare(runs).end[0]["full 5xW"] == "refused"
