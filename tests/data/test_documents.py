from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttkit.data import documents
from tttkit.data.documents import cut_lines, cut_pieces
from tttkit.errors import UsageError

LINES = st.lists(st.text(alphabet="ab =\t", max_size=6).map(lambda text: text + "\n"), max_size=20)


def cut(text, rule="file", pattern=None):
    return list(cut_lines(text.splitlines(keepends=True), rule, pattern))


def test_rules_cut_files_lines_and_blocks():
    text = "one\ntwo\n\n \nthree\r\n"
    assert cut(text) == [text]
    assert cut(text, "line") == ["one", "two", "three"]
    assert cut(text, "blank-line") == ["one\ntwo\n", "three\r\n"]


def test_wikitext_articles_start_at_headings_of_level_one():
    text = " \n = First = \n \n = = Part = = \n words = more \n = Second Title = \n x \n"
    assert cut(text, "wikitext") == [
        " \n = First = \n \n = = Part = = \n words = more \n"[2:],
        " = Second Title = \n x \n",
    ]


def test_a_pattern_overrides_the_rule_and_keeps_the_text_before_its_first_match():
    assert cut("preface\nCHAPTER I\na\nCHAPTER II\nb\n", "line", "^CHAPTER") == [
        "preface\n", "CHAPTER I\na\n", "CHAPTER II\nb\n",
    ]  # fmt: skip


@given(LINES)
def test_no_rule_loses_a_word(lines):
    words = [word for line in lines for word in line.split()]
    for rule in ("blank-line", "wikitext", "line"):
        assert [word for document in cut_lines(lines, rule) for word in document.split()] == words


def test_unknown_rule_and_broken_pattern_are_refused():
    with pytest.raises(UsageError, match="unknown document rule `page`"):
        cut("x", "page")
    with pytest.raises(UsageError, match="not a regular expression"):
        cut("x", pattern="(")


def joined(pieces):
    """Return the documents whose pieces these are."""
    texts, current = [], []
    for piece in pieces:
        if piece is None:
            texts.append("".join(current))
            current = []
        else:
            assert piece
            current.append(piece)
    assert not current, "every document is ended"
    return texts


@given(LINES, st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 20))
def test_documents_in_pieces_are_those_of_the_whole_text(lines, sizes, piece_characters):
    text, pieces, at = "".join(lines) + "a b", [], 0
    while at < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[at : at + size])
        at += size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "PIECE_CHARACTERS", piece_characters)
        for pattern in ("^a", "=", "b$", "^x", "^"):
            assert joined(cut_pieces(pieces, pattern)) == cut(text, pattern=pattern)


def test_a_document_and_a_line_of_any_length_come_in_pieces(monkeypatch):
    monkeypatch.setattr(documents, "MAX_LINE_CHARACTERS", 50)
    monkeypatch.setattr(documents, "PIECE_CHARACTERS", 50)
    line = "CHAPTER " + "a CHAPTER " * 1000
    pieces = list(cut_pieces([line[at : at + 20] for at in range(0, len(line), 20)] + ["\nCHAPTER 2\n"], "^CHAPTER"))
    assert joined(pieces) == [line + "\n", "CHAPTER 2\n"]
    assert max(len(piece or "") for piece in pieces) <= 150
