"""The data of task:passkey: windows of W tokens that end with the pass key they hold, and real text between them."""

from __future__ import annotations

import re

import pytest
from tokenizers import Tokenizer

from tttkit.data import open_split
from tttkit.data.text_tasks import prepare
from tttkit.data.text_tasks.prepare import prepare_passkey
from tttkit.errors import UsageError

WINDOW = 96


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("text")
    for index in range(30):
        # a cut inside a character of several bytes changes the number of tokens, so such texts must be left out
        words = (f"the {index + i} days of {i % 7} years are {chr(0x4E00 + 7 * i)}; so be it" for i in range(200))
        (path / f"{index:02d}.txt").write_text("\n".join(words))
    return path


def test_every_second_window_ends_with_its_pass_key_and_validation_has_none(source, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "SOURCE", str(source))
    for name in ("data", "again"):
        prepare_passkey(tmp_path / name, window=WINDOW, num_examples=41, tokenizer="bpe:300")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "data"]
    split = open_split(tmp_path / "data", "train")
    assert split.fingerprint == open_split(tmp_path / "again", "train").fingerprint
    assert split.num_tokens == 41 * WINDOW
    tokenizer = Tokenizer.from_file(str(tmp_path / "data" / "tokenizer.json"))
    places = set()
    for index in range(41):
        window = split.tokens(index * WINDOW, (index + 1) * WINDOW).tolist()
        assert [place for place, token in enumerate(window) if token == split.eos_id] == [WINDOW - 1]
        text = tokenizer.decode(window[:-1])
        assert ("pass key" in text) == (index % 2 == 0)
        if index % 2 == 0:
            keys = re.findall(r"The pass key is (\d{5})", text)
            assert len(keys) == 2
            assert keys[0] == keys[1]
            assert text.endswith(f"\nThe pass key is {keys[0]}")
            places.add(text.index("\nThe pass key"))
    assert len(places) > 10
    validation = open_split(tmp_path / "data", "validation")
    text = tokenizer.decode(validation.tokens(0, validation.num_tokens).tolist(), skip_special_tokens=False)
    assert "pass key" not in text
    assert validation.num_documents >= 1
    assert "days of" in text


def test_a_window_without_room_for_the_question_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "SOURCE", str(source))
    with pytest.raises(UsageError, match="task:passkey has no room in a window of 32"):
        prepare_passkey(tmp_path / "data", window=32, num_examples=8, tokenizer="bpe:300")
