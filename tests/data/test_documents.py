from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttkit.data.documents import cut_lines
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
