"""Questions about texts: the references are right, and prompts have the tokens that they should have."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tttkit.data.text_tasks.examples import check_answers, make_text_examples, shortest_length
from tttkit.data.text_tasks.questions import FEWEST_WORDS, PARTS, question_of
from tttkit.errors import DataError, UsageError

HAYSTACK = np.full((6, 4000), ord("~"))


def encode(texts):
    """A token is a character."""
    return [[ord(character) for character in text] for text in texts]


def decode(ids):
    return "".join(map(chr, ids))


@settings(max_examples=80, deadline=None)
@example(num_words=27, seed=0)  # the third and the fourth word would be equally often in the list
@given(num_words=st.integers(FEWEST_WORDS, 600), seed=st.integers(0, 50))
def test_the_words_asked_for_are_those_that_are_most_often_in_the_list(num_words, seed):
    common = question_of("common-words", seed, 0, num_words)
    counts = Counter(common.statements[0].split()).most_common()
    assert sum(count for _, count in counts) == num_words
    assert sorted(word for word, _ in counts[:4]) == list(common.references)
    assert counts[3][1] > counts[4][1]
    frequent = question_of("frequent-words", seed, 0, num_words)
    counts = Counter(frequent.statements[0].split()).most_common()
    assert sum(count for _, count in counts) == num_words
    assert [word for word, _ in counts[:3]] == list(frequent.references)
    assert counts[0][1] > counts[1][1] > counts[2][1]
    assert len(counts) == 3 or counts[2][1] > counts[3][1]


def test_the_cue_asks_for_one_of_several_needles():
    asked = set()
    for index in range(40):
        question = question_of("multi-key", 0, index)
        pairs = dict(
            re.fullmatch(r"\nThe number of (\w+) is (\d{7})\.\n", each).groups() for each in question.statements
        )
        assert len(pairs) == 4
        key = re.fullmatch(r"\nThe number of (\w+) is", question.cue)[1]
        assert question.references == (pairs[key],)
        asked.add(list(pairs).index(key))
    assert asked == {0, 1, 2, 3}


def test_every_variable_of_the_chain_has_the_value():
    question = question_of("variable-tracking", 3, 1)
    values = {}
    for statement in question.statements:
        name, source = re.fullmatch(r"\nVAR (\w+) = (?:VAR )?(\w+)\n", statement).groups()
        values[name] = values.get(source, source)
    assert question.references == tuple(values)
    assert len(values) == 5
    assert set(values.values()) == {re.search(r"\d+", question.cue)[0]}


@pytest.mark.parametrize("part", PARTS)
def test_prompt_and_longest_answer_have_the_length_and_hold_all_statements(part):
    least = shortest_length(part, 6, 0, encode)
    for length in (least, least + 1, least + 700):
        examples = make_text_examples(part, HAYSTACK, length, 0, encode)
        assert examples.prompts.shape == (6, length - max(map(len, examples.answers)))
        for index, prompt in enumerate(examples.prompts):
            question = question_of(part, 0, index)
            text = decode(prompt)
            assert text.endswith(question.cue)
            assert decode(examples.answers[index]) == f" {', '.join(examples.references[index])}"
            if not PARTS[part].is_list:
                places = [text.index(statement) for statement in question.statements]
                assert places == sorted(places)
                assert examples.references[index] == question.references
    with pytest.raises(ValueError, match="has room for"):
        make_text_examples(part, HAYSTACK, least - 1, 0, encode)


def test_a_list_of_words_fills_the_prompt():
    examples = make_text_examples("common-words", HAYSTACK, 1500, 0, encode)
    assert all((prompt == ord("~")).sum() < 100 for prompt in examples.prompts)


@pytest.mark.parametrize("depth", [0.0, 0.25, 1.0])
def test_a_pass_key_stands_at_its_depth(depth):
    examples = make_text_examples("passkey", HAYSTACK, 500, 0, encode, depth)
    statement = question_of("passkey", 0, 0).statements[0]
    room = 500 - 6 - len(statement) - len("\nThe pass key is")
    assert decode(examples.prompts[0]).index(statement) == round(depth * room)


def test_questions_follow_from_seed_and_number_and_differ():
    keys = [question_of("passkey", 0, index).references[0] for index in range(50)]
    assert keys == [question_of("passkey", 0, index).references[0] for index in range(50)]
    assert len(set(keys)) == 50
    assert question_of("passkey", 1, 0).references[0] != keys[0]
    assert all(len(key) == 5 for key in keys)
    with pytest.raises(UsageError, match="unknown kind of question `paskey`"):
        question_of("paskey", 0, 0)


def test_the_answer_is_what_the_cue_with_the_answer_adds():
    def merging(texts):
        return [[ord(x) if len(x) == 1 else 0x1000 for x in re.findall(r"s \d|.|\n", text)] for text in texts]

    examples = make_text_examples("passkey", HAYSTACK, 200, 0, merging, 0.0)
    assert decode(examples.prompts[0]).endswith("\nThe pass key i")
    assert examples.answers[0][0] == 0x1000
    assert len(examples.answers[0]) == 5


def test_a_tokenizer_without_digits_is_refused():
    examples = make_text_examples("passkey", HAYSTACK, 200, 0, encode, 0.0)
    check_answers(examples, decode)
    with pytest.raises(DataError, match="the tokenizer of the data cannot write"):
        check_answers(examples, lambda ids: "_" * len(ids))
