"""The directory of a model is read as its own library reads it, or refused by name."""

from __future__ import annotations

import json
import sys

import pytest
from tokenizers import Tokenizer

from tttkit.data import encode_documents
from tttkit.data.bpe_training import words_of
from tttkit.data.tokenizer import TokenizerOptions, load_tokenizer
from tttkit.errors import DataError, UsageError

from .conftest import TEXTS

AWKWARD = [*TEXTS, "it's 12345 IT'S\r\n\r\n  x", "e\u0301 \u212b", "<|endoftext|>a<|im_end|>b <tool>", ""]


def save(folder, pattern="qwen", **files):
    """Save vocab.json and merges.txt of a tokenizer with 350 tokens, and JSON files by name."""
    content = json.loads(load_tokenizer("bpe:350", words_of(TEXTS), TokenizerOptions(pattern=pattern)).json)
    (folder / "vocab.json").write_text(json.dumps(content["model"]["vocab"]))
    merges = [" ".join(merge) for merge in content["model"]["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return content


def added(*tokens, start=350):
    """Return added_tokens_decoder with these special tokens."""
    return {str(id_): {"content": token, "special": True} for id_, token in enumerate(tokens, start=start)}


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"tokenizer_class": "Qwen2Tokenizer"}},
        {"tokenizer_config": {"tokenizer_class": "Qwen2TokenizerFast"}},
        {"tokenizer_config": {}, "config": {"model_type": "qwen3"}},
        {"config": {"tokenizer_class": "Qwen2Tokenizer", "model_type": "other"}},
    ],
)
def test_a_folder_that_says_qwen_is_read_with_its_pattern_and_normalizer(tmp_path, files):
    content = save(tmp_path, **files)
    loaded = load_tokenizer(str(tmp_path))
    read = json.loads(loaded.json)
    assert read["pre_tokenizer"] == content["pre_tokenizer"]
    assert read["normalizer"] == {"type": "NFC"}
    assert (loaded.vocab_size, loaded.eos_id) == (350, 0)


@pytest.mark.parametrize("class_name", ["Qwen2Tokenizer", "GPT2Tokenizer"])
def test_ids_equal_those_of_transformers(tmp_path, class_name):
    transformers = pytest.importorskip("transformers")
    tokens = added("<|im_start|>", "<|im_end|>") | {"352": {"content": "<tool>", "special": False}}
    config = {"tokenizer_class": class_name, "eos_token": "<|im_end|>", "added_tokens_decoder": tokens}
    save(tmp_path, tokenizer_config=config)
    loaded = load_tokenizer(str(tmp_path))
    assert (loaded.vocab_size, loaded.eos_id) == (353, 351)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    for text in AWKWARD:
        assert loaded.encoder.encode([text])[0].tolist() == theirs.encode(text, add_special_tokens=False), text


@pytest.mark.parametrize(
    "files",
    [
        {
            "tokenizer_config": {"bos_token": "<a>", "additional_special_tokens": [{"content": "<b>"}]},
            "config": {"eos_token_id": 351},
        },
        {"special_tokens_map": {"additional_special_tokens": ["<a>", "<b>"]}, "config": {"eos_token_id": 351}},
        {"added_tokens": {"<b>": 351, "<a>": 350}, "special_tokens_map": {"eos_token": {"content": "<b>"}}},
    ],
)
def test_added_tokens_are_found_in_every_file_that_names_them(tmp_path, files):
    save(tmp_path, "gpt2", **files)
    loaded = load_tokenizer(str(tmp_path))
    assert [loaded.encoder.token_id(token) for token in ("<a>", "<b>")] == [350, 351]
    assert loaded.encoder.encode(["x<b><a>"])[0].tolist()[-2:] == [351, 350]
    assert (loaded.eos_id, loaded.vocab_size) == (351, 352)


def test_a_prefix_space_of_the_configuration_is_kept(tmp_path):
    save(tmp_path, "gpt2", tokenizer_config={"add_prefix_space": True})
    spaced, plain = (load_tokenizer(str(tmp_path)).encoder.encode([text])[0].tolist() for text in ("cat", " cat"))
    assert spaced == plain


def test_an_added_token_whose_id_is_not_the_next_one_is_refused(tmp_path):
    save(
        tmp_path,
        tokenizer_config={"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added("<x>", start=500)},
    )
    with pytest.raises(DataError, match=r"the tokenizer in .* cannot be used: the added token `<x>` has the id 500"):
        load_tokenizer(str(tmp_path))


def test_tokens_that_only_the_configuration_adds_join_the_tokenizer_json(tmp_path, tokenizer_json):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json.read_bytes())
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"added_tokens_decoder": added("<|endoftext|>", start=0)}))
    assert load_tokenizer(str(tmp_path)) == load_tokenizer(str(tokenizer_json))
    config.write_text(json.dumps({"added_tokens_decoder": added("<x>", start=320), "eos_token": "<x>"}))
    loaded = load_tokenizer(str(tmp_path))
    assert (loaded.vocab_size, loaded.eos_id) == (321, 320)
    assert loaded.encoder.encode(["<x>"])[0].tolist() == [320]
    config.write_text(json.dumps({"added_tokens_decoder": added("<|endoftext|>", start=7)}))
    with pytest.raises(DataError, match=r"gives `<\|endoftext\|>` the id 7, but its id is 0"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("tokens", [[1], {"x": {"content": "a"}}, {"1": "a"}, {"1": {}}])
def test_damaged_added_tokens_are_named(tmp_path, tokenizer_json, tokens):
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_json.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": tokens}))
    with pytest.raises(DataError, match=r"tokenizer_config\.json is damaged: added_tokens_decoder"):
        load_tokenizer(str(tmp_path))


@pytest.fixture
def sentencepiece_model(tmp_path):
    """The directory of a model with tokenizer.model, and the text that it was trained on."""
    sentencepiece = pytest.importorskip("sentencepiece")
    pytest.importorskip("transformers")
    text = " ".join(TEXTS).replace("\n", " ")
    (tmp_path / "text.txt").write_text("\n".join([text] * 20))
    folder = tmp_path / "model"
    folder.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"), model_prefix=str(folder / "tokenizer"), vocab_size=330, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    config = {"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_a_sentencepiece_model_is_converted_by_transformers(sentencepiece_model):
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(sentencepiece_model / "tokenizer.model"))
    loaded = load_tokenizer(str(sentencepiece_model))
    assert (loaded.vocab_size, loaded.eos_id) == (330, processor.eos_id())
    for text in ["The cat sat on the mat.", "x  y", "\u6771\u4eac 12"]:
        assert encode_documents([text], sentencepiece_model)[0].tolist() == processor.encode(text)


@pytest.mark.parametrize("package", ["transformers", "sentencepiece"])
def test_a_missing_package_is_named_with_what_to_install(tmp_path, monkeypatch, package):
    pytest.importorskip("transformers")
    pytest.importorskip("sentencepiece")
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"which needs the package {package}") as caught:
        load_tokenizer(str(tmp_path))
    assert "pip install 'tttkit[hf]'" in caught.value.hint


def test_files_that_transformers_cannot_convert_are_named(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("sentencepiece")
    save(tmp_path, tokenizer_config={"tokenizer_class": "UnheardOfTokenizer"})
    with pytest.raises(
        DataError, match=r"files of a UnheardOfTokenizer \(vocab\.json\), which transformers cannot conv"
    ):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("files", [{}, {"config": {"model_type": "gpt2"}}, {"vocab": {"a": 0}}])
def test_a_folder_without_a_tokenizer_is_refused(tmp_path, files):
    for name, value in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    with pytest.raises(UsageError, match="no tokenizer in directory") as caught:
        load_tokenizer(str(tmp_path))
    assert "merges.txt" in caught.value.hint


@pytest.mark.parametrize(
    ("vocab", "merges"),
    [
        ("[]", ""),
        ("{", ""),
        ('{"a": "b", "c": 1}', ""),
        ('{"a": 1.5}', ""),
        ('{"a": 0}', "a b c\n"),
        ('{"</s>": 0}', "a b\n"),
        ('{"</s>": -1}', ""),
        ("\xff", ""),
    ],
)
def test_damaged_vocab_and_merges_are_named(tmp_path, vocab, merges):
    (tmp_path / "vocab.json").write_bytes(vocab.encode("latin-1"))
    (tmp_path / "merges.txt").write_text(merges)
    with pytest.raises(DataError, match=f"{tmp_path}.*(holds no readable vocab|cannot be used)"):
        load_tokenizer(str(tmp_path))


def test_lines_of_merges_may_end_as_on_windows(tmp_path):
    save(tmp_path, "gpt2")
    expected = load_tokenizer(str(tmp_path))
    merges = (tmp_path / "merges.txt").read_bytes()
    (tmp_path / "merges.txt").write_bytes(b"\xef\xbb\xbf" + merges.replace(b"\n", b"\r\n"))
    assert load_tokenizer(str(tmp_path)) == expected
    assert Tokenizer.from_str(expected.json).encode("The cat").ids == expected.encoder.encode(["The cat"])[0].tolist()


@pytest.mark.parametrize("place", [".", "snapshots"])
def test_a_cache_of_the_hub_is_refused_with_the_name_of_its_snapshot(tmp_path, tokenizer_json, place):
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    with pytest.raises(UsageError) as caught:
        load_tokenizer(str(tmp_path / "models--org--name" / place))
    assert caught.value.hint.endswith(str(snapshot))


@pytest.mark.parametrize("name", ["", "tokenizer.json"])
def test_a_link_to_a_missing_download_is_named(tmp_path, name):
    (tmp_path / "tokenizer.json").symlink_to("../blobs/gone")
    with pytest.raises(DataError, match=r"is a link to a file that is missing \(\.\./blobs/gone\)") as caught:
        load_tokenizer(str(tmp_path / name))
    assert "again" in caught.value.hint
