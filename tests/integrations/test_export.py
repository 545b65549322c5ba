"""`convert --to hf`: what the directory holds, and the way back to the same bits."""

from __future__ import annotations

import json

import pytest

from tests.integrations.conftest import KINDS, load, transformers
from tests.models.small import random_ids, small_model
from tttkit.errors import UsageError
from tttkit.evaluate import token_nll
from tttkit.integrations.export import export_to_hugging_face
from tttkit.models import load_scoring_model, save_model
from tttkit.models.convert import convert_model


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_the_way_back_gives_the_same_bits(export, tmp_path, fields):
    ours, exported = export(**fields)
    done = convert_model(exported, tmp_path / "back")
    assert done.target == "tttkit"
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "back" / file).read_bytes() == (ours / file).read_bytes(), file


def test_the_directory_is_a_model_of_tttkit_too_and_needs_no_flag(export):
    ours, exported = export()
    tokens = random_ids(2, 30)
    assert (token_nll(load_scoring_model(exported), tokens) == token_nll(load_scoring_model(ours), tokens)).all()


def test_the_tokenizer_gives_the_same_ids_and_knows_the_end_of_text(export, tiny_data):
    from tokenizers import Tokenizer

    _, exported = export()
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported, trust_remote_code=True)
    known = Tokenizer.from_file(str(tiny_data / "tokenizer.json"))
    assert tokenizer("an old book about ships").input_ids == known.encode("an old book about ships").ids
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id) == (0, 0, None)
    assert load(exported).generation_config.eos_token_id == 0


def test_a_model_without_tokenizer_or_end_of_text_is_exported_too(tmp_path):
    save_model(small_model(), tmp_path / "ours")
    export_to_hugging_face(tmp_path / "ours", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == {}
    assert load(tmp_path / "out").generation_config.eos_token_id is None
    with pytest.raises(UsageError, match="already exists"):
        export_to_hugging_face(tmp_path / "ours", tmp_path / "out")


def test_the_card_shows_the_table_of_the_protocol(export, tmp_path, tiny_data):
    from tttkit.evaluate.model_directory import evaluate_model_directory
    from tttkit.evaluate.request import EvaluationRequest

    ours, exported = export()
    assert "It has not been measured yet" in (exported / "README.md").read_text()
    request = EvaluationRequest(path=ours, data=tiny_data, num_sequences=2, max_length=80, device="cpu")
    summary = evaluate_model_directory(request, tmp_path / "eval_ours").summary
    export_to_hugging_face(ours, tmp_path / "measured")
    card = (tmp_path / "measured" / "README.md").read_text()
    assert "| position | full | sw | sw_aligned | reset | SW/full [95 %] |" in card
    assert f"| 5 x W | {summary.perplexity('full', 5):,.2f} |" in card
    assert "trained on windows of 16 tokens" in card
