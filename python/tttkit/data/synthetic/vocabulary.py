"""The vocabulary of all synthetic tasks, and the rule that tells which tokens of a text are answers.

Ids: 0 ends a text, 1 is the blank, 2 is the question mark, and then follow noise, keys and values. A token is an answer
if it is a value and a question mark stands before it in the same text. So the answers follow from the ids alone.
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

END, BLANK, ASK = 0, 1, 2
NUM_NOISE, NUM_KEYS, NUM_VALUES = 256, 512, 512
FIRST_NOISE = 3
FIRST_KEY = FIRST_NOISE + NUM_NOISE
FIRST_VALUE = FIRST_KEY + NUM_KEYS
VOCAB_SIZE = FIRST_VALUE + NUM_VALUES
"""1,283: keys and values alone are 1,024."""
END_WORD = "<|endoftext|>"


def words() -> list[str]:
    """Return the word of each id."""
    kinds = (("n", NUM_NOISE), ("k", NUM_KEYS), ("v", NUM_VALUES))
    return [END_WORD, "_", "?", *(f"{letter}{index}" for letter, count in kinds for index in range(count))]


def is_answer(windows: Tensor) -> Tensor:
    """Return which of the tokens 1 … L of windows (N, L+1) are answers, (N, L) bool. A window is one text."""
    read = windows[:, :-1]
    is_asked = ((read == ASK).cumsum(1) > 0) & ((read == END).cumsum(1) == 0)
    return torch.logical_and(is_asked, windows[:, 1:] >= FIRST_VALUE)


def tokenizer_json() -> str:
    """Return the tokenizer.json that gives every word its id."""
    vocabulary = {word: index for index, word in enumerate(words())}
    special = {
        "id": END, "content": END_WORD, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
        "special": True,
    }  # fmt: skip
    return json.dumps(
        {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": [special], "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "_"},
        }
    )  # fmt: skip
