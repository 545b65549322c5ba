"""Continuations as text: whole characters, stop strings, end of text."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel

from tests.models.small import small_model
from tttkit.errors import DataError, UsageError
from tttkit.infer.sampling import Sampling
from tttkit.infer.text import TextStream, TextTokenizer, continue_texts, find_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_data):
    return TextTokenizer(str(tiny_data / "tokenizer.json"), 300)


def pieces_of(tokenizer, text, stops=(), context=""):
    stream = TextStream(tokenizer, tokenizer.encode(context) if context else [], stops)
    pieces = []
    for token in tokenizer.encode(text):
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    pieces.append(stream.close())
    assert "".join(pieces) == stream.text
    return pieces, stream


@pytest.mark.parametrize("text", ["the cat sat on a mat", "naïve 日本語 🙂 end", "\ttabs\n\nlines  ", "�"])
def test_pieces_join_to_the_text_and_never_hold_half_a_character(tokenizer, text):
    pieces, _ = pieces_of(tokenizer, text)
    assert "".join(pieces) == text
    assert all("�" not in piece for piece in pieces) or "�" in text
    assert len([piece for piece in pieces if piece]) > 1 or len(text) == 1


def test_bytes_that_never_become_a_character_are_shown_at_the_end(tokenizer):
    stream = TextStream(tokenizer, [], [])
    first_byte = tokenizer.encode("日")[0]
    assert stream.push(first_byte) == ""
    assert stream.close() == "�"


def test_words_are_decoded_as_they_are_after_the_prompt(tmp_path):
    words = Tokenizer(WordLevel({"<|endoftext|>": 0, "▁the": 1, "▁cat": 2, "▁sat": 3}, unk_token="<|endoftext|>"))
    words.pre_tokenizer, words.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()  # no space before the first
    words.add_special_tokens(["<|endoftext|>"])
    words.save(str(tmp_path / "tokenizer.json"))
    tokenizer = TextTokenizer(str(tmp_path / "tokenizer.json"), 4)
    assert pieces_of(tokenizer, "cat sat")[0] == ["cat", " sat", ""]
    assert pieces_of(tokenizer, "cat sat", context="the")[0] == [" cat", " sat", ""]


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("one two three", [" two"], "one"),
        ("one two three", ["three", "tw"], "one "),
        ("one two three", ["nothing", ""], "one two three"),
        ("aab", ["ab"], "a"),
        ("the cat", ["he", "t"], ""),  # both come with one token: the first in the text counts
        ("ends with st", ["stop"], "ends with st"),
    ],
)
def test_text_ends_before_a_stop_string(tokenizer, text, stops, expected):
    pieces, stream = pieces_of(tokenizer, text, stops)
    assert "".join(pieces) == expected
    assert stream.stopped == (expected != text)


def texts_of(model, tokenizer, prompts, **options):
    continuations, pieces = {}, {}
    for each, piece in continue_texts(model, tokenizer, prompts, Sampling(seed=1), **options):
        continuations[each.row] = each
        pieces[each.row] = pieces.get(each.row, "") + piece
    assert {row: each.text for row, each in continuations.items()} == pieces
    return continuations


def test_continuations_end_by_length_and_stop_string(tokenizer):
    model = small_model(vocab_size=300)
    continuations = texts_of(model, tokenizer, ["the cat", "a", "she read an old book about"], max_tokens=12)
    assert {len(each.ids) for each in continuations.values()} == {12}
    assert {each.finish_reason for each in continuations.values()} == {"length"}
    assert [continuations[row].prompt for row in range(3)] == ["the cat", "a", "she read an old book about"]
    text = continuations[0].text
    stop = text[3:5]
    stopped = texts_of(model, tokenizer, ["the cat"], max_tokens=12, stops=[stop])[0]
    assert stopped.finish_reason == "stop"
    assert stopped.text == text[: text.index(stop)]
    assert len(stopped.ids) < 12


def test_end_of_text_ends_a_row_and_is_not_shown(tokenizer):
    model = small_model(vocab_size=300)
    drawn = texts_of(model, tokenizer, ["the cat"], max_tokens=8)[0].ids
    tokenizer_ending_early = TextTokenizer.__new__(TextTokenizer)
    tokenizer_ending_early.__dict__.update({**tokenizer.__dict__, "eos_id": drawn[3]})
    first = drawn.index(drawn[3])
    ended = texts_of(model, tokenizer_ending_early, ["the cat"], max_tokens=8)[0]
    assert ended.finish_reason == "end-of-text"
    assert ended.ids == drawn[: first + 1]
    assert ended.text == tokenizer.decode(drawn[:first])


def test_an_empty_prompt_starts_a_document(tokenizer):
    assert tokenizer.encode("") == [tokenizer.eos_id]


def test_ids_that_the_tokenizer_lacks_have_no_text(tokenizer):
    assert tokenizer.decode([*tokenizer.encode("cat"), 5000]) == "cat"


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tiny_data, tmp_path):
    with pytest.raises(DataError, match="has 300 tokens, but the model knows 61"):
        TextTokenizer(str(tiny_data / "tokenizer.json"), 61)
    with pytest.raises(UsageError, match=r"holds no tokenizer \(model_type ttt\)"):
        find_tokenizer(tmp_path, {"model_type": "ttt"})
