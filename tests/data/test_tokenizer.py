from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from tttkit.data import encode_documents
from tttkit.data.tokenizer import load_decoder, load_tokenizer
from tttkit.errors import DataError, UsageError

from .conftest import TEXTS


def standard_library(num_files: int) -> list[str]:
    return [path.read_text() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:num_files]]


def assert_equal_to_reference(texts: list[str], path: Path) -> None:
    ids, offsets = encode_documents(texts, tokenizer=path)
    expected = [item.ids for item in Tokenizer.from_file(str(path)).encode_batch(texts, add_special_tokens=False)]
    assert offsets.dtype == np.uint64
    assert offsets.tolist() == np.cumsum([0, *map(len, expected)]).tolist()
    assert ids.tolist() == [id_ for one in expected for id_ in one]


def test_ids_equal_the_tokenizers_library(tokenizer_json):
    texts = [*standard_library(40), *TEXTS, "", "<|endoftext|>inside<|endoftext|>", "x" * 5000]
    assert_equal_to_reference(texts, tokenizer_json)


def test_ids_equal_the_tokenizers_library_with_gpt2(shared):
    novel = next((shared / "data" / "novels" / "validation").glob("*.txt")).read_text()
    pieces = [novel[start : start + 20_000] for start in range(0, 400_000, 20_000)]
    assert_equal_to_reference(pieces, shared / "data" / "gpt2" / "tokenizer.json")


def test_vocab_and_merges_give_the_same_tokenizer(shared):
    folder = shared / "data" / "gpt2"
    ids, _ = encode_documents(TEXTS, tokenizer=folder / "tokenizer.json")
    assert ids.dtype == np.uint16
    assert encode_documents(TEXTS, tokenizer=folder)[0].tolist() == ids.tolist()


def test_vocab_and_merges_without_a_tokenizer_json(tmp_path, tokenizer_json):
    model = json.loads(tokenizer_json.read_text())["model"]
    # Some editors put a byte-order mark in front.
    (tmp_path / "vocab.json").write_text("\ufeff" + json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (tmp_path / "merges.txt").write_text("\ufeff#version: 0.2\n" + "\n".join(merges) + "\n")
    ids, _ = encode_documents(TEXTS, tokenizer=tmp_path)
    assert ids.tolist() == encode_documents(TEXTS, tokenizer=tokenizer_json)[0].tolist()


def as_the_library_writes_it(path):
    return Tokenizer.from_file(str(path)).to_str(pretty=False)


@pytest.mark.parametrize("name", ["trained", "gpt2"])
def test_the_stored_tokenizer_json_is_the_one_that_the_library_writes(request, tmp_path, tokenizer_json, name):
    """Tokenizers are loaded without the library, and their digest does not depend on the formatting of the file."""
    source = tokenizer_json
    if name == "gpt2":
        source = request.getfixturevalue("shared") / "data" / "gpt2" / "tokenizer.json"
        for file in ("vocab.json", "merges.txt"):
            (tmp_path / file).write_bytes((source.parent / file).read_bytes())
    library = Tokenizer.from_file(str(source))
    loaded = load_tokenizer(str(source))
    assert loaded.json == library.to_str(pretty=False)
    assert loaded.vocab_size == library.get_vocab_size(with_added_tokens=True)
    assert loaded.eos_id == library.token_to_id("<|endoftext|>")
    (tmp_path / "spread.json").write_text(json.dumps(json.loads(source.read_text()), indent=3))
    escaped = load_tokenizer(str(tmp_path / "spread.json"))
    assert json.loads(escaped.json) == json.loads(loaded.json)
    assert escaped.encoder.is_byte_level_bpe
    assert np.array_equal(escaped.encoder.encode(TEXTS)[0], loaded.encoder.encode(TEXTS)[0])
    if name == "gpt2":
        assert load_tokenizer(str(tmp_path)) == loaded


def test_truncation_and_padding_are_removed(tmp_path, tokenizer_json):
    limited = Tokenizer.from_file(str(tokenizer_json))
    limited.enable_truncation(5)
    limited.enable_padding(length=7)
    limited.save(str(tmp_path / "limited.json"))
    loaded = load_tokenizer(str(tmp_path / "limited.json"))
    assert loaded.json == as_the_library_writes_it(tokenizer_json)
    assert encode_documents(TEXTS, tmp_path / "limited.json")[0].size > 7 * len(TEXTS)


def test_other_kinds_of_tokenizers_are_loaded_by_the_library(tmp_path):
    content = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0, "</s>": 9}, "unk_token": "a"}}
    (tmp_path / "words.json").write_text(json.dumps(content))
    loaded = load_tokenizer(str(tmp_path / "words.json"))
    assert (loaded.vocab_size, loaded.eos_id) == (10, 9)
    assert loaded.json == as_the_library_writes_it(tmp_path / "words.json")


def test_vector_instructions_are_chosen_by_name(tokenizer_json, monkeypatch):
    expected, _ = encode_documents(TEXTS, tokenizer=tokenizer_json)
    monkeypatch.setenv("TTTKIT_SIMD", "sse9")
    with pytest.raises(ValueError, match="TTTKIT_SIMD is `sse9`, this processor has .*scalar") as caught:
        load_tokenizer(str(tokenizer_json))
    available = str(caught.value).rpartition("has ")[2].split(", ")
    for name in available:
        monkeypatch.setenv("TTTKIT_SIMD", name)
        encoder = load_tokenizer(str(tokenizer_json)).encoder
        assert encoder.simd == name
        assert np.array_equal(encoder.encode(TEXTS)[0], expected)


def test_the_number_of_threads_does_not_change_the_ids(tokenizer_json):
    texts = standard_library(10)
    one, two = (encode_documents(texts, tokenizer=tokenizer_json, threads=count)[0] for count in (1, 2))
    assert np.array_equal(one, two)


def test_the_decoder_returns_the_text(tokenizer_json):
    decode = load_decoder(tokenizer_json)
    for text in TEXTS:
        assert decode(encode_documents([text], tokenizer=tokenizer_json)[0].tolist()) == text


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("nonsense", UsageError, "unknown tokenizer `nonsense`"),
        ("bpe:300", UsageError, "`bpe:300` needs a source to train on"),
        ("{tmp}/broken.json", DataError, "broken.json is not a tokenizer.json"),
        ("{tmp}/latin.json", DataError, "latin.json is not a tokenizer.json"),
        ("{tmp}/no_eos.json", DataError, "has no token that is known to be the end-of-text token"),
    ],
)
def test_unusable_tokenizers_are_refused(tmp_path, spec, error, message):
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "latin.json").write_bytes(b"\xff")
    Tokenizer.from_str(
        json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}})
    ).save(str(tmp_path / "no_eos.json"))
    with pytest.raises(error, match=message):
        load_tokenizer(spec.format(tmp=tmp_path))


def with_model(**values):
    return lambda content: content["model"].update(values)


def with_added(token, id_):
    return lambda content: content["added_tokens"].append({**content["added_tokens"][0], "content": token, "id": id_})


def with_id(token, id_):
    return lambda content: content["model"]["vocab"].update({token: id_})


@pytest.mark.parametrize("prefix_space", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_id("zz", 70_000), "its ids go up to 70000, but it has only 321 tokens"),
        (with_id("zz", (1 << 32) - 2), "its ids go up to"),
        (with_id("zz", 1 << 32), ""),
        (with_id("zz", 1 << 70), ""),
        (with_id("zz", -1), ""),
        (with_id("zz", 1.5), ""),
        (with_id("zz", "1"), ""),
        (
            with_added("<far>", 70_000),
            "the added token `<far>` has the id 70000 in the file, but the next free id is 320",
        ),
        (with_added("<far>", 1 << 32), ""),
        (with_added("The", 5), "the added token `The` has the id 5"),
        (with_model(merges=[["q", "unknown"]]), "unknown"),
        (with_model(merges=[["T"]]), ""),
        (with_model(merges=["T"]), ""),
        (with_model(merges=None), ""),
        (with_model(vocab=[]), ""),
        (with_model(vocab=None), ""),
        (with_model(type="Nonsense"), ""),
        (lambda content: content.pop("model"), ""),
        (lambda content: content.update(pre_tokenizer={"type": "Nonsense"}), ""),
    ],
)
def test_a_tokenizer_that_cannot_be_used_is_refused_in_one_line(
    tmp_path, tokenizer_json, prefix_space, change, message
):
    """With a prefix space the library encodes, without it Rust does."""
    content = json.loads(tokenizer_json.read_text())
    content["pre_tokenizer"]["add_prefix_space"] = prefix_space
    change(content)
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"bad\.json is not a tokenizer\.json that can be used: .") as caught:
        load_tokenizer(str(tmp_path / "bad.json"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_tokenizer_is_refused(tmp_path, tokenizer_json, share):
    content = tokenizer_json.read_bytes()
    (tmp_path / "bad.json").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"bad\.json is not a tokenizer\.json"):
        load_tokenizer(str(tmp_path / "bad.json"))


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    for name in ("bad.json", "tokenizer.json"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(200 << 20)
    for spec in (tmp_path / "bad.json", tmp_path):
        with pytest.raises(DataError, match=r"json is not a tokenizer\.json: it has 200 MB, more than 128"):
            load_tokenizer(str(spec))


@pytest.mark.parametrize("place", ["pre_tokenizer", "normalizer"])
def test_an_expression_that_backtracks_for_ever_is_an_error(tmp_path, tokenizer_json, place):
    """The `tokenizers` crate ends such a split without an error. With a prefix space it encodes, without it Rust does,
    whose automata do not backtrack."""
    content = json.loads(tokenizer_json.read_text())
    content["pre_tokenizer"]["add_prefix_space"] = True
    pattern = {"Regex": "(a+)+(?=b)b"}
    if place == "normalizer":
        content["normalizer"] = {"type": "Replace", "pattern": pattern, "content": "c"}
    else:
        split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, content["pre_tokenizer"]]}
    path = tmp_path / "slow.json"
    path.write_text(json.dumps(content))
    assert_equal_to_reference(["", "aaab aab", "a" * 8, *TEXTS], path)
    with pytest.raises(DataError, match=r"the expression `\(a\+\)\+\(\?=b\)b` of the tokenizer .*backtrack") as caught:
        encode_documents(["a" * 100], tokenizer=path)
    assert "\n" not in str(caught.value)


def test_small_gaps_between_ids_are_used_as_they_are(tmp_path, tokenizer_json):
    content = json.loads(tokenizer_json.read_text())
    content["model"]["vocab"]["zz"] = 400
    (tmp_path / "gap.json").write_text(json.dumps(content))
    loaded = load_tokenizer(str(tmp_path / "gap.json"))
    assert (loaded.vocab_size, loaded.encoder.token_id("zz")) == (401, 400)


@pytest.mark.parametrize("prefix_space", [False, True])
def test_dropout_is_switched_off_and_that_is_said(tmp_path, tokenizer_json, prefix_space):
    content = json.loads(tokenizer_json.read_text())
    content["pre_tokenizer"]["add_prefix_space"] = prefix_space
    (tmp_path / "plain.json").write_text(json.dumps(content))
    content["model"]["dropout"] = 0.5
    (tmp_path / "dropout.json").write_text(json.dumps(content))
    plain, dropout = (load_tokenizer(str(tmp_path / f"{name}.json")) for name in ("plain", "dropout"))
    assert json.loads(dropout.json) == json.loads(plain.json)
    assert dropout.encoder.encode(TEXTS * 20)[0].tolist() == plain.encoder.encode(TEXTS * 20)[0].tolist()
    assert dropout.encoder.is_byte_level_bpe == plain.encoder.is_byte_level_bpe
    assert (plain.notes, len(dropout.notes)) == ([], 1)
    assert "dropout of 0.5 is switched off" in dropout.notes[0]


def test_one_string_in_place_of_a_list_is_refused(tokenizer_json):
    with pytest.raises(TypeError, match="texts must be a sequence of strings"):
        encode_documents("text", tokenizer=tokenizer_json)
