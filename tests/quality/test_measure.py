"""What a model writes: a looping model, real text, models of transformers, and going on after a stop."""

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.models.small import small_model
from tttkit.data import open_split
from tttkit.errors import DataError, UsageError
from tttkit.evaluate.request import EvaluationRequest
from tttkit.models import save_model
from tttkit.quality import measure
from tttkit.quality.differences import differences
from tttkit.quality.directory import measure_model_directory
from tttkit.quality.measure import Writer
from tttkit.quality.settings import Settings
from tttkit.results.quality import COLUMNS, Quality

SIZES = Settings(lengths=(8, 24), num_prompts=3, max_tokens=12)


@dataclasses.dataclass(frozen=True)
class Read:
    """How many tokens were read, as a state."""

    position: int
    num_bytes: int = 8

    def select(self, rows):
        return self


class LoopingModel:
    """Always continues a token by the next one of a cycle of three."""

    name, bos_id, adds_bos, mini_batch_size, max_positions, sees_whole_past = "loop", None, False, 1, None, False
    end_ids, device, can_carry, training = frozenset(), torch.device("cpu"), True, False

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def bytes_per_token(self):
        return 8

    def initial_state(self, batch_size):
        return Read(0)

    def next_logits(self, input_ids, state):
        following = (input_ids[:, -1] % 3) + 1
        logits = torch.nn.functional.one_hot(following % 3, self.vocab_size) * 50.0
        return logits, Read(state.position + input_ids.shape[1])


@pytest.fixture
def request_for(tmp_path, tiny_data):
    """Build a request for a small model with the tokenizer of the data."""

    def build(name="ours", **fields):
        vocab_size = json.loads((tiny_data / "manifest.json").read_text())["vocab_size"]
        save_model(small_model(vocab_size=vocab_size, **fields), tmp_path / name, metadata={"window": 8})
        shutil.copy(tiny_data / "tokenizer.json", tmp_path / name)
        return EvaluationRequest(path=tmp_path / name, data=tiny_data, device="cpu")

    return build


def test_every_continuation_of_a_looping_model_is_a_loop(tiny_data, tmp_path):
    split = open_split(tiny_data, "validation")
    job = SimpleNamespace(model=LoopingModel(split.vocab_size), split=split, window=8, bos="never", key="key", facts={})
    writer = Writer(job, SIZES, None)
    quality = writer.run(measure.NllBlocks.beside(tmp_path, "key"))
    assert len(quality.cells) == 5
    for cell in quality.cells[:-1]:
        assert cell["figures"]["loops"] == {"value": 1.0, "low": 1.0, "high": 1.0}
        values = {name: figure["value"] for name, figure in cell["figures"].items() if name != "loops"}
        assert values == pytest.approx(
            {"rep_2": 1 - 3 / 11, "rep_3": 1 - 3 / 10, "rep_4": 1 - 3 / 9, "distinct_1": 3 / 36, "distinct_2": 3 / 33,
             "distinct_3": 3 / 30}
        )  # fmt: skip
    assert quality.cells[-1]["method"] == "text"
    assert quality.cells[-1]["figures"]["loops"]["value"] == 0.0
    seeds = [writer._sampling("nucleus", first).seed for first in (0, measure.ROWS)]
    assert seeds[0] != seeds[1], "two blocks draw the same numbers"


def test_a_bos_stands_in_front_of_every_prompt(tiny_data, tmp_path):
    split = open_split(tiny_data, "validation")
    model = LoopingModel(split.vocab_size)
    model.bos_id, read = 2, []
    continue_ = model.next_logits
    model.next_logits = lambda ids, state: read.append((state.position, ids.tolist())) or continue_(ids, state)
    job = SimpleNamespace(model=model, split=split, window=8, bos="always", key="key", facts={})
    writer = Writer(job, SIZES, None)
    writer.run(measure.NllBlocks.beside(tmp_path, "key"))
    prompts = [row for position, rows in read if position == 0 for row in rows]
    assert [row[0] for row in prompts] == [2] * (3 * 2 * 2)
    assert [row[1:] for row in prompts[:3]] == writer.texts[:, 24 - 8 : 24].tolist()


def test_real_text_follows_the_prompts_in_the_split(request_for, tiny_data, tmp_path):
    quality = measure_model_directory(request_for(), tmp_path / "out", SIZES, judge=request_for("judge").path).quality
    written = Quality.read(tmp_path / "out" / "quality.json")
    assert written.to_dict() == json.loads(json.dumps(quality.to_dict()))
    assert [(cell["length"], cell["method"]) for cell in quality.cells] == [
        (8, "greedy"), (8, "nucleus"), (24, "greedy"), (24, "nucleus"), (24, "text")
    ]  # fmt: skip
    assert all(cell["figures"]["judge_nll"]["value"] > 0 for cell in quality.cells)
    split, end = open_split(tiny_data, "validation"), quality.values["ends"][0]
    from tttkit.infer.text import TextTokenizer

    tokenizer = TextTokenizer(str(split.tokenizer_path), split.vocab_size)
    assert quality.values["samples"][0]["text"] == tokenizer.decode(split.tokens(end, end + 12).tolist())
    assert quality.values["samples"][0]["prompt"] == tokenizer.decode(split.tokens(end - 24, end).tolist())
    shares = [figure for cell in quality.cells for name, figure in cell["figures"].items() if name != "judge_nll"]
    assert all(0.0 <= value <= 1.0 for figure in shares for value in figure.values())
    assert [tuple(row) for row in quality.table_rows()] == [COLUMNS[:-1]] * 5, "MAUVE was left out"
    assert "MAUVE" in quality.left_out
    other_order = dataclasses.replace(SIZES, lengths=(24, 8, 8))
    known = measure_model_directory(request_for(), tmp_path / "out", other_order, judge=tmp_path / "judge")
    assert (known.written, known.quality.values) == ((), written.values)


def test_differences_are_paired_by_prompt_and_zero_for_a_model_with_itself(request_for, tmp_path):
    first = measure_model_directory(request_for(), tmp_path / "a", SIZES).quality
    second = measure_model_directory(request_for("other", architecture="mamba2"), tmp_path / "b", SIZES).quality
    rows = differences([("a", first), ("again", first), ("b", second)])
    assert [(row["model"], row["prompt"], row["method"]) for row in rows[:2]] == [
        ("again", "1 x W", "greedy"), ("again", "1 x W", "nucleus")
    ]  # fmt: skip
    assert all(figure["value"] == 0.0 for row in rows[:4] for figure in row["differences"].values())
    assert np.mean(first.cells[0]["per_prompt"]["rep_2"]) != np.mean(second.cells[0]["per_prompt"]["rep_2"])
    by_hand = np.mean(second.cells[0]["per_prompt"]["rep_2"]) - np.mean(first.cells[0]["per_prompt"]["rep_2"])
    assert rows[4]["differences"]["rep_2"]["value"] == pytest.approx(by_hand)
    other_prompts = Quality({**second.values, "seed": 1})
    assert [row["model"] for row in differences([("a", first), ("b", other_prompts)])] == ["real text"] * 4


class Stop(Exception):
    """Stands in for a signal."""


def test_a_stopped_measurement_goes_on_with_the_same_figures(request_for, tmp_path, monkeypatch):
    request = request_for()

    def stop(done):
        if done >= 0.6:
            raise Stop

    with pytest.raises(Stop):
        measure_model_directory(request, tmp_path / "out", SIZES, progress=stop)
    (blocks,) = (tmp_path / "out").glob(".nll-*")
    finished = {path.stem for path in blocks.glob("*.safetensors")}
    assert len(finished) >= 2
    written = []
    write = measure.NllBlocks.arrays
    monkeypatch.setattr(
        measure.NllBlocks, "arrays",
        lambda self, name, compute: write(self, name, lambda: written.append(name) or compute()),
    )  # fmt: skip
    again = measure_model_directory(request, tmp_path / "out", SIZES)
    assert finished.isdisjoint(written), "a finished block was written again"
    assert again.quality.to_dict() == measure_model_directory(request, tmp_path / "whole", SIZES).quality.to_dict()
    assert measure_model_directory(request, tmp_path / "out", SIZES).written == ()


def test_a_foreign_model_with_few_positions_continues_short_prompts_only(request_for, tmp_path, tiny_data):
    transformers = pytest.importorskip("transformers")
    vocab_size = json.loads((tiny_data / "manifest.json").read_text())["vocab_size"]
    config = transformers.GPT2Config(
        vocab_size=vocab_size, n_embd=16, n_layer=1, n_head=2, n_positions=19, bos_token_id=0, eos_token_id=1
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    shutil.copy(tiny_data / "tokenizer.json", tmp_path / "gpt2")
    request = EvaluationRequest(path=tmp_path / "gpt2", data=tiny_data, window=8, bos="never", device="cpu")
    quality = measure_model_directory(request, tmp_path / "out", SIZES).quality
    assert quality.left_out["prompts of 24 tokens"] == "the model has 19 positions"
    assert [(cell["length"], cell["method"]) for cell in quality.cells[:-1]] == [(8, "greedy"), (8, "nucleus")]


def test_requests_that_cannot_be_met_are_refused(request_for, tmp_path):
    request = request_for()
    with pytest.raises(DataError, match="tokens in the split"):
        measure_model_directory(request, tmp_path / "out", dataclasses.replace(SIZES, lengths=(10_000_000,)))
    with pytest.raises(UsageError, match="--max-tokens must be at least 12, got 3"):
        measure_model_directory(request, tmp_path / "out", dataclasses.replace(SIZES, max_tokens=3))
    assert not (tmp_path / "out").exists()
