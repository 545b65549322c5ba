"""The tokenizer `words` of the synthetic tasks: a word is a number, and its id is that number."""

from __future__ import annotations

import json

from tttkit.data.end_of_text import END_OF_TEXT
from tttkit.data.tasks import VOCABULARY

WORDS = "words"
"""Its name, for `--tokenizer`."""


def words_json() -> str:
    """Return its tokenizer.json."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    vocabulary = {END_OF_TEXT: 0, **{str(word): word for word in range(1, VOCABULARY)}}
    content = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [{"id": 0, "content": END_OF_TEXT, **flags}], "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": END_OF_TEXT},
    }  # fmt: skip
    return json.dumps(content)
