"""`tttkit generate` on a trained model: streams, JSON, prompts from stdin, errors."""

from __future__ import annotations

import io
import json
import math
import shutil
import types
from itertools import pairwise

import pytest
from safetensors.torch import load_file, save_file

from .conftest import tttkit


@pytest.fixture(scope="module")
def model(trained):
    return trained[0] / "best_model"


def generate(model, *arguments):
    return tttkit("generate", model, "--seed", 1, "--max-tokens", 12, *arguments)


def test_text_goes_to_stdout_and_the_rest_to_stderr(model):
    result = generate(model, "--prompt", "the cat sat")
    assert result.code == 0, result.err
    assert len(result.out.strip()) > 3
    assert "12 drawn in" in result.err
    assert "tokens/s, seed 1" in result.err
    assert generate(model, "--prompt", "the cat sat").out == result.out
    assert generate(model.parent, "--prompt", "the cat sat").out == result.out  # a run stands for its best model


def test_json_of_several_prompts_keeps_their_order(model):
    result = generate(model, "--json", "--prompt", "she read an old book about ships", "--prompt", "a", "--prompt", "")
    assert result.code == 0, result.err
    answer = json.loads(result.out)
    assert [each["prompt"] for each in answer["results"]] == ["she read an old book about ships", "a", ""]
    assert answer["seed"] == 1
    for each in answer["results"]:
        assert len(each["ids"]) == 12 or each["finish_reason"] == "end-of-text"
        assert each["num_prompt_tokens"] >= 1
    alone = json.loads(generate(model, "--json", "--prompt", "she read an old book about ships").out)
    assert alone["results"][0] == answer["results"][0]


def test_several_texts_name_their_prompts(model):
    result = generate(model, "--prompt", "the cat", "--prompt", "ships far from home")
    assert "> the cat\n" in result.out
    assert "> ships far from home\n" in result.out


def test_stop_strings_end_the_text(model):
    options = ("--prompt", "the cat sat", "--temperature", 0)
    text = generate(model, *options).out.removesuffix("\n")
    stop = text[4:7]
    stopped = generate(model, *options, "--stop", stop).out.removesuffix("\n")
    assert stopped == text[: text.index(stop)]


def test_the_prompt_may_come_from_stdin(model, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("the cat sat\n"))
    result = generate(model, "--json")
    (continuation,) = json.loads(result.out)["results"]
    assert continuation["prompt"] == "the cat sat", "the last line break is the terminal's"
    assert continuation["ids"] == ids_of(model)


def ids_of(model, *arguments):
    result = generate(model, "--json", "--prompt", "the cat sat", *arguments)
    return json.loads(result.out)["results"][0]["ids"]


def test_pieces_are_shown_as_they_come(model, monkeypatch):
    """A pipe or a terminal gets each piece before the next one is drawn."""
    import tttkit_cli.generate as command

    seen = []

    class File(io.StringIO):
        def flush(self):
            seen.append(self.getvalue())

    plain = command._Show
    monkeypatch.setattr(command, "out", types.SimpleNamespace(is_terminal=False, file=(file := File())))
    monkeypatch.setattr(command, "_Show", lambda *_, **options: plain(1, **options))
    assert generate(model, "--prompt", "the cat sat").code == 0
    assert len(set(seen)) > 5
    assert seen[-1] == file.getvalue()
    assert all(after.startswith(before) for before, after in pairwise(seen))


def test_options_reach_the_draw(model):
    likeliest = ids_of(model, "--temperature", 0)
    assert ids_of(model) != likeliest
    for option in (("--top-k", 1), ("--top-p", 1e-6), ("--temperature", 1e-3)):
        assert ids_of(model, *option) == likeliest, option


def test_a_terminal_gets_no_control_characters(monkeypatch):
    import tttkit_cli.generate as command

    written = {}
    for is_terminal in (True, False):
        stream = types.SimpleNamespace(is_terminal=is_terminal, file=io.StringIO())
        monkeypatch.setattr(command, "out", stream)
        command._Show(1, quiet=False)._write("a\x1b[2Jb\n\tc")
        written[is_terminal] = stream.file.getvalue()
    assert written == {True: "a[2Jb\n\tc", False: "a\x1b[2Jb\n\tc"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--temperature", -1), 2, "temperature"),
        (("--top-p", 1.5), 2, "--top-p must be above 0 and at most 1, got 1.5"),
        (("--tokenizer", "nowhere"), 2, "unknown tokenizer `nowhere`"),
        (("--device", "tpu9"), 2, "unknown device `tpu9`"),
    ],
)
def test_wrong_options(model, arguments, code, message):
    result = generate(model, "--prompt", "a", *arguments)
    assert result.code == code
    assert message in result.error


def test_wrong_models(model, tmp_path):
    assert "no such model directory" in generate(tmp_path / "nowhere", "--prompt", "a").error
    shutil.copytree(model, tmp_path / "bare")
    (tmp_path / "bare" / "tokenizer.json").unlink()
    result = generate(tmp_path / "bare", "--prompt", "a")
    assert (result.code, "holds no tokenizer (" in result.error) == (2, True)
    again = generate(tmp_path / "bare", "--prompt", "a", "--tokenizer", model / "tokenizer.json")
    assert again.out == generate(model, "--prompt", "a").out


def test_a_prompt_that_is_not_text_is_refused(model):
    """Python represents bytes that are not UTF-8 this way, from the command line or, without a locale, from a pipe."""
    result = generate(model, "--prompt", "caf\udce9 noir")
    assert (result.code, "the text to continue is not UTF-8, from character 4 on" in result.error) == (2, True)


def test_a_model_whose_numbers_are_not_finite(model, tmp_path):
    shutil.copytree(model, tmp_path / "bad")
    weights = load_file(tmp_path / "bad" / "model.safetensors")
    weights["model.norm.weight"][0] = math.nan
    save_file(weights, tmp_path / "bad" / "model.safetensors")
    (tmp_path / "bad" / "MANIFEST.json").unlink()
    result = generate(tmp_path / "bad", "--prompt", "a")
    assert result.code == 5
    assert "are not finite: model.norm.weight hint: the training run that wrote them diverged" in result.error


def test_convert_there_and_back(model, tmp_path):
    there = tttkit("convert", model, tmp_path / "official", "--json")
    assert json.loads(there.out)["format"] == "official"
    back = tttkit("convert", tmp_path / "official", tmp_path / "again")
    assert "tttkit format" in back.err
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert generate(tmp_path / "official", "--prompt", "a").out == generate(model, "--prompt", "a").out
    assert "already exists" in tttkit("convert", model, tmp_path / "again").error
    assert "unknown format `onnx`" in tttkit("convert", model, tmp_path / "b", "--to", "onnx").error


def test_convert_for_transformers_and_back(model, tmp_path):
    pytest.importorskip("transformers")
    there = tttkit("convert", model, tmp_path / "hf", "--to", "hf", "--json")
    assert json.loads(there.out)["format"] == "hf"
    assert (tmp_path / "hf" / "modeling_tttkit.py").is_file()
    back = tttkit("convert", tmp_path / "hf", tmp_path / "back")
    assert (back.code, "tttkit format" in back.err) == (0, True)
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    texts = [
        tttkit("generate", path, "--prompt", "an old", "--temperature", 0, "--max-tokens", 9, "--json").out
        for path in (model, tmp_path / "hf")
    ]
    assert json.loads(texts[0])["results"] == json.loads(texts[1])["results"]
