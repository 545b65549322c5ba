"""The end-of-text token is the one that is asked for, or that the files of a model name, or the only usual one."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tttkit.data import encode_documents, open_split, prepare_dataset
from tttkit.data.tokenizer import TokenizerOptions, load_tokenizer
from tttkit.errors import DataError, UsageError


def save(folder, special, plain=()):
    """Save a tokenizer of words with these special tokens, whose ids count from 0."""
    vocab = {word: id_ for id_, word in enumerate([*special, *plain, "a", "b", "?"])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(list(special))
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config.json": {"eos_token": "<|im_end|>"}}, "<|im_end|>"),
        ({"tokenizer_config.json": {"eos_token": {"content": "<stop>", "special": True}}}, "<stop>"),
        ({"special_tokens_map.json": {"eos_token": "<stop>"}}, "<stop>"),
        ({"generation_config.json": {"eos_token_id": 2}}, "<|im_end|>"),
        ({"generation_config.json": {"eos_token_id": [2]}}, "<|im_end|>"),
        ({"config.json": {"eos_token_id": 1}}, "<stop>"),
        ({"config.json": {"text_config": {"eos_token_id": 1}}}, "<stop>"),
        ({"manifest.json": {"eos_id": 1}}, "<stop>"),
        ({"generation_config.json": {"eos_token_id": [1, 2]}, "config.json": {"eos_token_id": 2}}, "<|im_end|>"),
        ({"tokenizer_config.json": {"eos_token": "<|im_end|>"}, "config.json": {"eos_token_id": 1}}, "<|im_end|>"),
        ({"tokenizer_config.json": {"eos_token": None}, "config.json": {"eos_token_id": 1}}, "<stop>"),
        ({"config.json": {"eos_token_id": None}}, "</s>"),
        ({"config.json": {"eos_token_id": [0, 2]}}, "</s>"),
        ({}, "</s>"),
    ],
)
def test_the_files_of_a_model_name_the_token(tmp_path, files, expected):
    save(tmp_path, ["</s>", "<stop>", "<|im_end|>"])
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    for spec in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = load_tokenizer(str(spec))
        assert loaded.eos_id == loaded.encoder.token_id(expected)
        assert load_tokenizer(str(spec), options=TokenizerOptions(eos="<stop>")).eos_id == 1


def test_files_beside_a_tokenizer_of_another_name_say_nothing_about_it(tmp_path):
    save(tmp_path, ["</s>", "<stop>"])
    (tmp_path / "tokenizer.json").rename(tmp_path / "mine.json")
    (tmp_path / "config.json").write_text('{"eos_token_id": 1}')
    assert load_tokenizer(str(tmp_path / "mine.json")).eos_id == 0


@pytest.mark.parametrize(
    ("special", "plain", "expected"),
    [
        (["<pad>", "</s>"], [], "</s>"),
        (["<pad>", "<eos>"], ["</s>"], "<eos>"),
        (["<pad>"], ["</s>"], "</s>"),
        (["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"], [], "<｜end▁of▁sentence｜>"),
    ],
)
def test_a_usual_name_decides_if_it_is_the_only_one(tmp_path, special, plain, expected):
    tokenizer = save(tmp_path, special, plain)
    assert load_tokenizer(str(tmp_path)).eos_id == tokenizer.token_to_id(expected)


@pytest.mark.parametrize(
    ("special", "plain", "files", "message"),
    [
        (["</s>", "<|endoftext|>"], [], {}, "several tokens that may be"),
        ([], ["</s>", "<eos>"], {}, "several tokens that may be"),
        (["<|im_start|>", "<|im_end|>"], [], {}, "no token that is known to be"),
        (["<a>", "<b>"], [], {"config.json": {"eos_token_id": [0, 1]}}, "several tokens that may be"),
        (["<a>", "<b>"], [], {"config.json": {"eos_token_id": 99}}, "no token that is known to be"),
        (["<a>", "<b>"], [], {"tokenizer_config.json": {"eos_token": "</s>"}}, "no token that is known to be"),
    ],
)
def test_a_token_that_is_not_clear_is_asked_for(tmp_path, special, plain, files, message):
    save(tmp_path, special, plain)
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as caught:
        load_tokenizer(str(tmp_path))
    assert caught.value.hint.startswith("name it with --eos TOKEN; it")
    assert all(token in caught.value.hint for token in special)


def test_a_token_that_is_asked_for_must_exist_and_the_candidates_are_listed(tmp_path):
    save(tmp_path, [f"<special {number}>" for number in range(20)])
    with pytest.raises(UsageError, match="has no token `<none>`") as caught:
        load_tokenizer(str(tmp_path), options=TokenizerOptions(eos="<none>"))
    assert caught.value.hint.endswith("<special 11> and 8 more")


@pytest.mark.parametrize("content", ["[]", "{", "\xff", '"x"'])
def test_a_damaged_file_of_a_model_is_named(tmp_path, content):
    save(tmp_path, ["</s>"])
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match="config.json is not a JSON object"):
        load_tokenizer(str(tmp_path))


def test_a_post_processor_that_adds_the_token_does_not_double_it(tmp_path):
    tokenizer = save(tmp_path / "model", ["</s>", "<s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("</s>", 0), ("<s>", 1)]
    )
    tokenizer.save(str(tmp_path / "model" / "tokenizer.json"))
    assert tokenizer.encode("a b").ids == [1, 2, 3, 0]
    assert encode_documents(["a b"], tmp_path / "model")[0].tolist() == [2, 3]
    (tmp_path / "text.txt").write_text("a b\nb\n")
    prepare_dataset(
        [str(tmp_path / "text.txt")], tmp_path / "data", str(tmp_path / "model"),
        validation_fraction=0, documents="line",
    )  # fmt: skip
    assert open_split(tmp_path / "data", "train").tokens(0, 5).tolist() == [2, 3, 0, 3, 0]
    assert load_tokenizer(str(tmp_path / "data" / "tokenizer.json")).eos_id == 0
