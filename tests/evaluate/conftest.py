from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.models.small import MEMORIES, small_model
from tttkit.data import open_split, prepare_dataset

MODELS = {
    "ttt-linear": {"share_qk": True, "pre_conv": True},
    "ttt-mlp": {"ttt_layer_type": "mlp"},
    "sw": {"architecture": "sw"},
    "transformer": {"architecture": "transformer"},
    **MEMORIES,
}


@pytest.fixture(scope="session", params=list(MODELS))
def tiny_model(request):
    """Each architecture with inner mini-batch 4 (1 for attention) and a vocabulary of 61."""
    return small_model(**MODELS[request.param])


@pytest.fixture(scope="session")
def text_data(tmp_path_factory):
    return tmp_path_factory.mktemp("text") / "data"


@pytest.fixture(scope="session")
def validation_split(text_data):
    """Real text that every machine has: the sources of Python's json package, a byte-level BPE of 300 tokens."""
    source = Path(json.__file__).parent
    prepare_dataset([str(source / "*.py")], text_data, tokenizer="bpe:300", validation_fraction=0.3)
    return open_split(text_data, "validation")


@pytest.fixture(scope="session")
def text_tokenizer(text_data, validation_split):
    """The tokenizer of the validation text."""
    return str(text_data / "tokenizer.json")


@pytest.fixture(scope="session")
def text_model(validation_split):
    """A model with the vocabulary of the validation text."""
    return small_model(vocab_size=validation_split.vocab_size)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Use one thread: models this small lose more to synchronization than a second thread gains."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
