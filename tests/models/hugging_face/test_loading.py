"""Directories that cannot be used: one line that names what is wrong, a hint, and the documented exit code."""

from __future__ import annotations

import json
import pickle  # noqa: TID251 - makes a file that must be refused
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.hugging_face.conftest import VOCAB_SIZE, transformers
from tests.models.small import random_ids
from tttkit.errors import DataError, NumericalError, UsageError
from tttkit.evaluate import token_nll
from tttkit.models import load_scoring_model

WEIGHTS = "model.safetensors"


def edit_config(directory, **fields):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def spoil_weights(directory, change):
    tensors = load_file(directory / WEIGHTS)
    change(tensors)
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})


def sequence_to_sequence(save_small, tmp_path):
    config = transformers.T5Config(
        vocab_size=VOCAB_SIZE, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    return tmp_path / "t5"


def encoder(save_small, tmp_path):
    config = transformers.BertConfig(
        vocab_size=VOCAB_SIZE, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def encoder_that_claims_to_be_causal(save_small, tmp_path):
    return save_small("bert")


def encoder_alone(save_small, tmp_path):
    config = transformers.ViTConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


def quantized(save_small, tmp_path):
    directory = save_small()
    edit_config(directory, quantization_config={"quant_method": "gptq", "bits": 4})
    return directory


def adapter_alone(save_small, tmp_path):
    directory = tmp_path / "adapter"
    directory.mkdir()
    (directory / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "base/model"}')
    save_file({"a": torch.ones(1)}, directory / "adapter_model.safetensors")
    return directory


def vocabulary_larger_than_the_embedding(save_small, tmp_path):
    directory = save_small()
    edit_config(directory, vocab_size=VOCAB_SIZE + 5)
    return directory


def tokenizer_larger_than_the_embedding(save_small, tmp_path):
    from tokenizers import Tokenizer, models

    directory = save_small()
    vocab = {f"t{index}": index for index in range(VOCAB_SIZE + 1)}
    Tokenizer(models.WordLevel(vocab, unk_token="t0")).save(str(directory / "tokenizer.json"))
    return directory


def broken_tokenizer(save_small, tmp_path):
    directory = save_small()
    (directory / "tokenizer.json").write_text("{}")
    return directory


def nan_weights(save_small, tmp_path):
    directory = save_small()
    spoil_weights(directory, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    return directory


def missing_tensor(save_small, tmp_path):
    directory = save_small()
    spoil_weights(directory, lambda tensors: tensors.pop("model.norm.weight"))
    return directory


def missing_shard(save_small, tmp_path):
    directory = save_small()
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    (directory / WEIGHTS).unlink()
    model.save_pretrained(directory, max_shard_size="4KB")
    shards = sorted(directory.glob("model-*.safetensors"))
    assert len(shards) > 1
    shards[1].unlink()
    return directory


def shard_outside(save_small, tmp_path):
    directory = save_small()
    (directory / WEIGHTS).unlink()
    (directory / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}')
    return directory


def truncated_weights(save_small, tmp_path):
    directory = save_small()
    (directory / WEIGHTS).write_bytes((directory / WEIGHTS).read_bytes()[:-100])
    return directory


def no_weights(save_small, tmp_path):
    directory = save_small()
    (directory / WEIGHTS).unlink()
    return directory


def no_config(save_small, tmp_path):
    directory = save_small()
    (directory / "config.json").unlink()
    return directory


def config_is_no_object(save_small, tmp_path):
    directory = save_small()
    (directory / "config.json").write_text("[]")
    return directory


def unknown_family(save_small, tmp_path):
    directory = save_small()
    edit_config(directory, model_type="never_heard_of")
    return directory


def impossible_sizes(save_small, tmp_path):
    directory = save_small()
    edit_config(directory, num_attention_heads="two")
    return directory


def remote_code(save_small, tmp_path):
    directory = save_small()
    edit_config(directory, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    (directory / "own.py").write_text("raise SystemExit('this code must not run')")
    return directory


def pickle_with_code(save_small, tmp_path):
    directory = save_small()
    (directory / WEIGHTS).unlink()

    class Code:
        def __reduce__(self):
            return (sys.exit, ("this code must not run",))

    with (directory / "pytorch_model.bin").open("wb") as file:
        pickle.dump({"model.norm.weight": Code()}, file)
    return directory


BAD = [
    (sequence_to_sequence, DataError, "holds a sequence-to-sequence model \\(T5ForConditionalGeneration\\)"),
    (encoder, DataError, "holds BertForMaskedLM, which is not a causal language model"),
    (encoder_that_claims_to_be_causal, DataError, "the bert model is not causal"),
    (encoder_alone, DataError, "holds a vit model, which is not a causal language model"),
    (quantized, UsageError, "needs a package that is not installed: .*(optimum|gptqmodel)"),
    (adapter_alone, DataError, "holds a PEFT adapter without the model that it changes \\(base/model\\)"),
    (vocabulary_larger_than_the_embedding, DataError, "have another shape for lm_head.weight and 1 more"),
    (tokenizer_larger_than_the_embedding, DataError, "has ids up to 61, but the embedding has 61 rows"),
    (broken_tokenizer, DataError, "is not a tokenizer.json"),
    (nan_weights, NumericalError, "are not finite: model.norm.weight"),
    (missing_tensor, DataError, "lack model.norm.weight"),
    (missing_shard, DataError, "lacks model-00002-of-.*, which model.safetensors.index.json names"),
    (shard_outside, DataError, "names a file outside its directory"),
    (truncated_weights, DataError, "a safetensors file in .* is incomplete or damaged"),
    (no_weights, DataError, "holds no weights: expected model.safetensors"),
    (no_config, DataError, "missing file: .*config.json"),
    (config_is_no_object, DataError, "must hold a JSON object, got list"),
    (unknown_family, DataError, "holds a never_heard_of model, which transformers .* does not know"),
    (impossible_sizes, DataError, "transformers cannot load"),
    (remote_code, UsageError, "brings its own Python code, which is not run without your permission"),
    (pickle_with_code, DataError, "more than tensors"),
]
EXIT_CODES = {DataError: 65, UsageError: 2, NumericalError: 5}


@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=[make.__name__ for make, *_ in BAD])
def test_a_directory_that_cannot_be_used_is_refused_in_one_line(save_small, tmp_path, make, error, message):
    directory = make(save_small, tmp_path)
    with pytest.raises(error, match=message) as caught:
        load_scoring_model(directory)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert directory.name in str(caught.value) or "model is not causal" in str(caught.value)
    assert caught.value.exit_code == EXIT_CODES[error]


def test_remote_code_runs_with_the_flag_only(save_small):
    directory = save_small()
    edit_config(
        directory, model_type="own", auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    )
    (directory / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    with pytest.raises(UsageError, match="own Python code") as caught:
        load_scoring_model(directory)
    assert "--trust-remote-code" in caught.value.hint
    expected = token_nll(load_scoring_model(save_small(name="plain")), random_ids(2, 20))
    nll = token_nll(load_scoring_model(directory, trust_remote_code=True), random_ids(2, 20))
    assert (nll == expected).all()


def test_the_flag_does_not_run_code_of_a_family_that_transformers_knows(save_small):
    directory = save_small()
    edit_config(directory, auto_map={"AutoModelForCausalLM": "own.Model"})
    (directory / "own.py").write_text("raise SystemExit('this code must not run')")
    assert load_scoring_model(directory, trust_remote_code=True).name == "llama"


def test_tensors_of_a_pickle_are_read_as_tensors(save_small):
    directory = save_small()
    expected = token_nll(load_scoring_model(directory), random_ids(2, 20))
    torch.save(load_file(directory / WEIGHTS), directory / "pytorch_model.bin")
    (directory / WEIGHTS).unlink()
    assert (token_nll(load_scoring_model(directory), random_ids(2, 20)) == expected).all()


def test_without_transformers_one_line_says_what_to_install(save_small, monkeypatch):
    directory = save_small()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UsageError, match="need the package transformers") as caught:
        load_scoring_model(directory)
    assert caught.value.hint == "pip install 'tttkit[hf]'"


def test_a_kernel_without_float32_names_the_option(save_small, monkeypatch):
    directory = save_small()

    def refuses(self, *args, **kwargs):
        raise AssertionError("ChunkedKernel does not support float32. Please use bfloat16.")

    monkeypatch.setattr(transformers.LlamaModel, "forward", refuses)
    with pytest.raises(DataError, match="does not support float32") as caught:
        load_scoring_model(directory)
    assert "--dtype bf16" in caught.value.hint


def test_a_directory_that_does_not_exist(tmp_path):
    with pytest.raises(DataError, match="no such model directory"):
        load_scoring_model(tmp_path / "none")


def test_a_model_of_the_hub_without_network_names_the_cache(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UsageError, match="cannot load `hf:nobody/nothing@main` from the hub") as caught:
        load_scoring_model("hf:nobody/nothing@main")
    assert str(tmp_path / "hub") in str(caught.value)


def test_loading_leaves_the_settings_of_transformers_alone(save_small):
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_scoring_model(save_small())
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
