"""`tttkit eval`: repeated, killed and missing evaluations, several models, bad requests."""

from __future__ import annotations

import json
import math
import shutil

import pytest

from tests.cli.conftest import tttkit

SMALL = ("--num-sequences", 2, "--max-length", 80, "--device", "cpu")


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def test_a_model_is_evaluated_once_for_its_weights_data_and_protocol(copy):
    best = copy / "best_model"
    first = tttkit("eval", "checkpoint", best, *SMALL)
    assert first.code == 0
    assert "bits/byte" in first.out
    written = copy / "eval_best_model" / "summary.json"
    before = written.read_bytes()
    again = tttkit("eval", "checkpoint", best, *SMALL)
    assert "evaluated before, same weights, data and protocol" in again.err
    assert written.read_bytes() == before
    other = tttkit("eval", "checkpoint", best, *SMALL[2:], "--num-sequences", 3)
    assert "evaluated before" not in other.err
    assert not list(copy.glob("eval_best_model/.nll-*"))


def test_dynamic_is_measured_with_what_tune_dynamic_prints(copy):
    best = copy / "best_model"
    tuned = tttkit("eval", "tune-dynamic", best, *SMALL, "--dynamic-segment", 16)
    assert tuned.code == 0
    options = tuned.out.strip().splitlines()[-1].split()
    assert options[0] == "--dynamic-rate"
    assert options[-2:] == ["--dynamic-segment", "16"]
    result = json.loads(tttkit("eval", "checkpoint", best, *SMALL, *options, "--json").out)
    assert result["dynamic"]["learning_rate"] == float(options[1])
    assert result["dynamic_ppl_corpus"] is not None
    assert "dynamic beyond W" in tttkit("eval", "checkpoint", best, *SMALL, *options).out


def test_options_of_dynamic_without_a_rate_are_refused(copy):
    result = tttkit("eval", "checkpoint", copy / "best_model", *SMALL, "--dynamic-decay", 0.1)
    assert result.code == 2
    assert "need a learning rate" in result.err
    result = tttkit("eval", "run", copy, "--dynamic-rate", 0.1, "--dynamic-optimizer", "adam")
    assert (result.code, "must be one of sgd, rms" in result.err) == (2, True)


def test_equal_weights_of_two_models_are_evaluated_once(copy, monkeypatch):
    shutil.rmtree(copy / "final_model")
    shutil.copytree(copy / "best_model", copy / "final_model")
    first = tttkit("eval", "checkpoint", copy / "best_model", *SMALL)
    monkeypatch.setattr("tttkit.evaluate.model_directory.evaluate_model", None)  # measuring again would fail
    second = tttkit("eval", "checkpoint", copy / "final_model", *SMALL)
    assert (first.code, second.code) == (0, 0)
    assert "final_model has the weights of an earlier evaluation" in second.err
    one, other = copy / "eval_best_model", copy / "eval_final_model"
    assert {file.name for file in one.iterdir()} == {file.name for file in other.iterdir()}
    summaries = [json.loads((directory / "summary.json").read_text()) for directory in (one, other)]
    assert [summary.pop("path").rsplit("/", 1)[1] for summary in summaries] == ["best_model", "final_model"]
    assert summaries[0] == summaries[1]
    assert "evaluated before" in tttkit("eval", "checkpoint", copy / "final_model", *SMALL).err


def test_other_weights_in_the_same_place_are_evaluated_anew(copy):
    from safetensors.numpy import load_file, save_file

    best = copy / "best_model"
    before = json.loads(tttkit("eval", "checkpoint", best, *SMALL, "--json").out)
    weights = load_file(best / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * 1.5
    save_file(weights, best / "model.safetensors")
    refused = tttkit("eval", "checkpoint", best, *SMALL, "--json")
    assert refused.code == 65
    assert "hint: restore the file; if it was changed on purpose, remove MANIFEST.json" in refused.error
    (best / "MANIFEST.json").unlink()
    again = tttkit("eval", "checkpoint", best, *SMALL, "--json")
    assert "evaluated before" not in again.err
    after = json.loads(again.out)
    assert after["evaluation_key"] != before["evaluation_key"]
    assert after["ttt_ppl_at_5xW"] != before["ttt_ppl_at_5xW"]


def test_non_finite_weights_are_reported_and_not_measured(copy):
    from safetensors.numpy import load_file, save_file

    best = copy / "best_model"
    weights = load_file(best / "model.safetensors")
    weights["model.norm.weight"][3] = math.nan
    save_file(weights, best / "model.safetensors")
    (best / "MANIFEST.json").unlink()
    result = tttkit("eval", "checkpoint", best, *SMALL)
    assert result.code == 5
    assert "are not finite: model.norm.weight hint" in result.error
    assert not (copy / "eval_best_model").exists()


def test_a_killed_evaluation_continues_from_its_finished_blocks(copy, monkeypatch):
    from tttkit.evaluate import measure

    calls, compute = [], measure.token_nll

    def dies_in_sw(model, tokens, context="full", **options):
        calls.append(context)
        if context == "sw" and calls.count("sw") == 1:
            raise KeyboardInterrupt
        return compute(model, tokens, context, **options)

    monkeypatch.setattr(measure, "token_nll", dies_in_sw)
    assert tttkit("eval", "checkpoint", copy / "best_model", *SMALL).code == 130
    assert not (copy / "eval_best_model" / "summary.json").exists()
    calls.append("again")
    assert tttkit("eval", "checkpoint", copy / "best_model", *SMALL).code == 0
    # Neither selection_ppl nor one of the other contexts is computed again; the whole split has a name of its own.
    assert set(calls[calls.index("again") + 1 :]) == {"sw"}


def test_a_damaged_block_is_computed_again(copy, monkeypatch):
    from tttkit.evaluate import blocks, measure

    compute = measure.token_nll

    def dies_in_sw_aligned(model, tokens, context="full", **options):
        if context == "sw_aligned":
            raise KeyboardInterrupt
        return compute(model, tokens, context, **options)

    monkeypatch.setattr(measure, "token_nll", dies_in_sw_aligned)
    assert tttkit("eval", "checkpoint", copy / "best_model", *SMALL).code == 130
    monkeypatch.undo()
    (whole,) = copy.glob("eval_best_model/.nll-*/full-*.safetensors")
    whole.write_bytes(whole.read_bytes()[:-7])
    was_there, read = [], blocks._read

    def watched(path):
        part = read(path)
        was_there.append((path.name.split("-")[0], part is not None))
        return part

    monkeypatch.setattr(blocks, "_read", watched)
    assert tttkit("eval", "checkpoint", copy / "best_model", *SMALL).code == 0
    assert list(dict.fromkeys(was_there)) == [
        ("selection", True), ("full", False), ("reset", True), ("sw_aligned", False), ("sw", False), ("whole", False),
    ]  # fmt: skip


def test_several_models_in_one_table_and_one_plot(copy, finished):
    answer = tttkit("eval", "checkpoint", copy / "best_model", copy / "final_model", *SMALL)
    assert answer.code == 0
    assert (copy / "models.png").read_bytes().startswith(b"\x89PNG")
    joint = answer.out.split("perplexity by model, context and position")[1]
    summary = json.loads((copy / "eval_final_model" / "summary.json").read_text())
    row = next(line for line in joint.splitlines() if "final_model" in line and "reset" in line)
    assert f"{summary['reset_ppl_at_5xW']:,.2f}" in row
    assert f"{summary['reset_ppl_corpus']:,.2f}" in row
    assert "ratio to the full context of best_model, paired by sequence" in joint
    assert "NLL by slot of 8 beyond W minus sw, nats" in answer.out


def test_models_with_the_same_name_are_distinguished_and_kept_apart(copy, finished, tmp_path):
    paths = (copy / "best_model", finished / "best_model")
    answer = tttkit("eval", "checkpoint", *paths, *SMALL, "--out", tmp_path / "out", "--json")
    assert answer.code == 0
    assert len(json.loads(answer.out)) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "copy-best_model", "models.png", "small-best_model",
    ]  # fmt: skip
    twice = tttkit("eval", "checkpoint", copy / "best_model", copy / "best_model", *SMALL)
    assert (twice.code, "both called copy/best_model" in twice.error) == (2, True)


def test_labels_reach_as_far_as_the_sequences(copy, tiny_data):
    answer = tttkit("eval", "checkpoint", copy / "best_model", "--num-sequences", 1, "--max-length", 1600, "--json")
    assert answer.code == 0
    summary = json.loads(answer.out)
    assert [m for m in (1, 20, 50, 100) if summary.get(f"sw_ppl_at_{m}xW")] == [1, 20, 50, 100]
    assert summary["x_pos_at_100xW"] == 1600 - 16 // 2


def test_labels_end_at_multiples_of_a_window_that_is_no_multiple_of_the_usual_chunk(copy):
    answer = tttkit("eval", "checkpoint", copy / "best_model", "--window", 24, "--num-sequences", 1, "--json")
    summary = json.loads(answer.out)
    assert (summary["chunk_size"], summary["chunk_stride"], summary["eval_max_length"]) == (16, 8, 480)
    assert [summary[f"x_pos_at_{m}xW"] + 8 for m in (1, 2, 5, 10, 20)] == [24, 48, 120, 240, 480]


def test_eval_run_does_missing_evaluations_and_repeats_none(copy):
    lost = copy / "checkpoint_001"
    before = json.loads((lost / "summary.json").read_text())
    (lost / "summary.json").unlink()
    listed = [item for item in json.loads((copy / "all_summaries.json").read_text()) if item["checkpoint_idx"] != 1]
    (copy / "all_summaries.json").write_text(json.dumps(listed))
    assert tttkit("eval", "run", copy, "--device", "cpu").code == 0
    after = json.loads((lost / "summary.json").read_text())
    for key in ("step", "tokens_seen", "weights_sha256", "ttt_ppl_at_5xW", "selection_ppl", "num_sequences"):
        assert after[key] == pytest.approx(before[key], rel=1e-4) if isinstance(after[key], float) else before[key]
    assert [item["checkpoint_idx"] for item in json.loads((copy / "all_summaries.json").read_text())] == [0, 1, 2]
    assert tttkit("eval", "run", copy, "--device", "cpu").err.count("evaluated before") == 2


def test_the_whole_split_with_its_counts_and_the_slots(copy, tiny_data):
    value = json.loads(tttkit("eval", "checkpoint", copy / "final_model", *SMALL, "--json").out)
    whole = value["whole_split"]
    counts = json.loads((tiny_data / "manifest.json").read_text())["splits"]["validation"]
    assert whole["num_tokens"] == sum(shard["num_tokens"] for shard in counts["shards"]) - 1
    assert whole["bits_per_byte"] == pytest.approx(whole["nll_sum"] / math.log(2) / whole["num_bytes"])
    assert whole["word_ppl"] == pytest.approx(math.exp(whole["nll_sum"] / whole["num_words"]))
    assert whole["stride"] == 16
    assert [len(means) for means in value["nll_by_slot"].values()] == [8] * 4


def test_bad_requests(copy, tmp_path):
    best = copy / "best_model"
    answers = {
        "many": tttkit("eval", "checkpoint", best, "--num-sequences", 10**6),
        "long": tttkit("eval", "checkpoint", best, "--max-length", 10**7),
        "weights": tttkit("eval", "checkpoint", shutil.copytree(copy / "checkpoint_000", tmp_path / "bare",
                                                                ignore=shutil.ignore_patterns("model"))),
        "run": tttkit("eval", "checkpoint", copy),
        "window": tttkit("eval", "checkpoint", best, "--window", 7),
        "split": tttkit("eval", "checkpoint", best, "--split", "test"),
    }  # fmt: skip
    assert {name: answer.code for name, answer in answers.items()} == {
        "many": 2, "long": 65, "weights": 2, "run": 2, "window": 2, "split": 65,
    }  # fmt: skip
    assert "at least one inner mini-batch" in answers["window"].error
    assert "the split holds" in answers["many"].error
    assert "results but no weights" in answers["weights"].error
    assert "tttkit eval" in answers["run"].error or "best_model" in answers["run"].error
    config = json.loads((best / "config.json").read_text())
    (best / "config.json").write_text(json.dumps({**config, "tokenizer_sha256": "0" * 64}))
    other = tttkit("eval", "checkpoint", best)
    assert (other.code, "was trained with tokenizer" in other.error) == (65, True)
