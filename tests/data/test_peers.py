from __future__ import annotations

import json

import pytest

from tttkit.data import encode_documents
from tttkit.data.peers import PEERS, is_byte_level

from .conftest import TEXTS


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.package)
def test_a_peer_counts_the_tokens_of_the_text(peer, tmp_path, tokenizer_json):
    if not peer.is_installed:
        pytest.skip(f"{peer.package} is not installed")
    paths = [tmp_path / f"{index}.txt" for index in range(2)]
    for path, text in zip(paths, TEXTS, strict=False):
        path.write_text(text.replace("\r", "").rstrip("\n"))
    texts = [path.read_text() for path in paths]
    if peer.package == "datasets":  # the usual recipe drops line ends and blank lines
        texts = [line for text in texts for line in text.splitlines() if line]
    assert peer.engine(paths, tokenizer_json) == len(encode_documents(texts, tokenizer_json)[0])


@pytest.mark.parametrize(
    ("section", "values", "expected"),
    [
        (None, {}, True),
        (None, {"normalizer": {"type": "NFC"}}, False),
        ("pre_tokenizer", {"add_prefix_space": True}, False),
        ("pre_tokenizer", {"type": "Whitespace"}, False),
        ("model", {"type": "WordLevel"}, False),
    ],
)
def test_only_a_byte_level_bpe_goes_to_tiktoken(tmp_path, tokenizer_json, section, values, expected):
    content = json.loads(tokenizer_json.read_text())
    (content[section] if section else content).update(values)
    (tmp_path / "changed.json").write_text(json.dumps(content))
    assert is_byte_level(tmp_path / "changed.json") is expected
