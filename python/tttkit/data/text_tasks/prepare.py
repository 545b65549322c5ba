"""Prepare the DATA directory of `task:passkey`: real text, in half of whose training windows a pass key is asked for.

The text is the source of Python's own library, and the validation split is real text alone. Every training document has
W tokens, so that window k of training is document k.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from tttkit.data.encode import encode_all
from tttkit.data.job import PrepareProgress
from tttkit.data.manifest import Manifest
from tttkit.data.prepare import prepare_dataset
from tttkit.data.split import Split, open_split
from tttkit.data.text_tasks.examples import Encode, Ids, full_texts
from tttkit.data.text_tasks.questions import PASSKEY
from tttkit.data.tokenizer import LoadedTokenizer, load_tokenizer
from tttkit.errors import UsageError
from tttkit.storage import files
from tttkit.storage.commits import remove_directory

SOURCE = "stdlib"
_SEED = 1 << 31
"""First seed of the training questions, far from those of a measurement."""
_AT_ONCE = 4096
_MOST_ROUNDS = 1000


def prepare_passkey(
    out: Path, *, window: int, num_examples: int, tokenizer: str, progress: PrepareProgress | None = None
) -> Manifest:
    """Write the documents to DATA directory `out`; equal arguments give equal bytes.

    Raises UsageError if the window has no room for the question, and as `prepare_dataset` does.
    """
    texts = out.with_name(f".{out.name}.task")
    files.make_directory(texts)
    plain = texts / "plain"
    prepare_dataset([SOURCE], plain, tokenizer=tokenizer, progress=progress)
    loaded = load_tokenizer(str(plain / "tokenizer.json"))
    train = _documents(open_split(plain, "train"), loaded, window, num_examples)
    files.write_text(texts / "train.jsonl", _json_lines(train))
    files.write_text(texts / "validation.jsonl", _json_lines(_texts_of(open_split(plain, "validation"), loaded)))
    manifest = prepare_dataset(
        [texts / "train.jsonl"], out, tokenizer=str(plain / "tokenizer.json"),
        validation=[texts / "validation.jsonl"], progress=progress,
    )  # fmt: skip
    remove_directory(texts)
    return manifest


def _documents(split: Split, loaded: LoadedTokenizer, window: int, count: int) -> list[str]:
    """Return `count` documents of W tokens with the end of text, in turn with a pass key and of text alone.

    A text whose ids, written as text and read again, are another number of ids is left out.
    """
    decoder = Tokenizer.from_str(loaded.json)

    def encode(texts: Sequence[str]) -> list[list[int]]:
        return encode_all(loaded.encoder, texts)

    def usable(candidates: Sequence[Sequence[int]]) -> list[str]:
        written = decoder.decode_batch([list(ids) for ids in candidates], skip_special_tokens=False)
        return [text for text, ids in zip(written, encode(written), strict=True) if len(ids) == window - 1]

    with_key: list[str] = []
    alone: list[str] = []
    for seed in range(_SEED, _SEED + _MOST_ROUNDS):
        haystacks = _haystacks(split, loaded.eos_id, window - 1, min(count, _AT_ONCE), seed)
        with_key += usable(_with_pass_keys(haystacks, window, seed, encode))
        alone += usable(haystacks.tolist())
        if min(len(with_key), len(alone)) > count // 2:
            return [text for pair in zip(with_key, alone, strict=False) for text in pair][:count]
    raise UsageError(
        f"task:passkey finds too few texts of {window - 1} tokens with this tokenizer",
        hint="choose another data.tokenizer or train.window",
    )


def _with_pass_keys(haystacks: Ids, window: int, seed: int, encode: Encode) -> list[list[int]]:
    try:
        return full_texts(PASSKEY, haystacks, window - 1, seed, encode)
    except ValueError as error:
        message = f"task:passkey has no room in a window of {window}: {error}"
        raise UsageError(message, hint="raise train.window") from None


def _haystacks(split: Split, eos_id: int, length: int, most: int, seed: int) -> Ids:
    """Return at most `most` texts (N, length) from random places, each inside one document."""
    starts = np.random.default_rng(seed).integers(0, split.num_tokens - length + 1, most)
    texts = np.stack([split.tokens(start, start + length) for start in starts.tolist()]).astype(np.int64)
    chosen: Ids = texts[(texts != eos_id).all(axis=1)]
    return chosen


def _texts_of(split: Split, loaded: LoadedTokenizer) -> list[str]:
    """Return the documents of a split as text."""
    decoder = Tokenizer.from_str(loaded.json)
    ends = split.document_ends.tolist()
    documents = [split.tokens(start, end - 1).tolist() for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    written: list[str] = decoder.decode_batch(documents, skip_special_tokens=False)
    return [text for text in written if text]


def _json_lines(texts: Sequence[str]) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)
