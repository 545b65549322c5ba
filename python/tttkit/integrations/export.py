"""Write a model as a Hugging Face directory: config, weights, tokenizer, model card, and a file that loads our code.

Nothing here imports transformers. The directory stays a model directory of tttkit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttkit import __version__
from tttkit.config.model import ModelConfig
from tttkit.errors import DataError, UsageError
from tttkit.integrations.model_card import model_card
from tttkit.models.convert import Conversion, read_source
from tttkit.models.hugging_face.directory import EXPORT_KEYS
from tttkit.models.official import to_official
from tttkit.models.storage import CONFIG_NAME, WEIGHTS_NAME, save_weights
from tttkit.storage import commits, files

CODE_NAME = "modeling_tttkit.py"
_CODE = '''"""A model of tttkit for transformers. It needs tttkit: pip install 'tttkit[hf]'."""

from tttkit.integrations.transformers import TttkitConfig as _Config
from tttkit.integrations.transformers import TttkitForCausalLM as _ForCausalLM


class TttkitConfig(_Config):
    """The configuration of a model of tttkit."""


class TttkitForCausalLM(_ForCausalLM):
    """A language model of tttkit."""

    config_class = TttkitConfig
'''
_MODULE = CODE_NAME.removesuffix(".py")
_MAX_TOKENIZER_BYTES = 256 << 20


def export_to_hugging_face(source: str | Path, out: str | Path) -> Conversion:
    """Write the model of `source` into the new directory `out`; float32 weights keep every bit.

    `AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)` loads it where tttkit is installed. `source` is
    as in `convert_model`. Raises UsageError if `out` exists, DataError for files that are missing, damaged or do not
    fit.
    """
    source, out = Path(source), Path(out)
    if out.exists():
        raise UsageError(f"{out} already exists", hint="choose a directory that does not exist yet")
    directory = source if source.is_dir() else source.parent
    model, others = read_source(source)
    tokenizer = directory / "tokenizer.json"
    eos_id = _eos_id(others, tokenizer)
    out.parent.mkdir(parents=True, exist_ok=True)
    with commits.commit_directory(out) as temporary:
        files.write_json(temporary / CONFIG_NAME, _config(model.config, others, eos_id))
        save_weights(to_official(model), temporary / WEIGHTS_NAME)
        files.write_text(temporary / CODE_NAME, _CODE)
        files.write_json(temporary / "generation_config.json", _generation(eos_id))
        if tokenizer.is_file():
            files.write_bytes(temporary / "tokenizer.json", tokenizer.read_bytes())
            files.write_json(temporary / "tokenizer_config.json", _tokenizer_config(tokenizer, eos_id))
        files.write_text(temporary / "README.md", model_card(model, directory, others))
    return Conversion(model=model, target="hf", out=out)


def _config(config: ModelConfig, others: Mapping[str, Any], eos_id: int | None) -> dict[str, Any]:
    """Return config.json: our fields and metadata, then what transformers needs."""
    ours = {**config.to_dict(), **others}
    theirs = {
        "model_type": "tttkit",
        "architectures": ["TttkitForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{_MODULE}.TttkitConfig",
            "AutoModelForCausalLM": f"{_MODULE}.TttkitForCausalLM",
        },
        "dtype": "float32",
        "use_cache": True,
        "bos_token_id": None,
        "pad_token_id": eos_id,
        "tttkit_version": __version__,
    }
    if set(theirs) - EXPORT_KEYS:
        raise RuntimeError(f"EXPORT_KEYS lacks {sorted(set(theirs) - EXPORT_KEYS)}")
    return {**ours, **theirs}


def _generation(eos_id: int | None) -> dict[str, Any]:
    return {} if eos_id is None else {"eos_token_id": eos_id, "pad_token_id": eos_id}


def _eos_id(others: Mapping[str, Any], tokenizer: Path) -> int | None:
    """Return the end-of-text id that the model was trained with; None if it is not recorded."""
    known = others.get("eos_token_id")
    if isinstance(known, list):
        known = known[0] if known else None
    return known if isinstance(known, int) and tokenizer.is_file() else None


def _tokenizer_config(tokenizer: Path, eos_id: int | None) -> dict[str, Any]:
    """Return tokenizer_config.json, which names the end-of-text token. Raises DataError for a damaged tokenizer."""
    values = files.read_json(tokenizer, max_bytes=_MAX_TOKENIZER_BYTES)
    try:
        vocab = {id_: token for token, id_ in dict(values["model"]["vocab"]).items()}
        vocab |= {each["id"]: each["content"] for each in values.get("added_tokens") or []}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{tokenizer} is not a tokenizer.json: {json.dumps(str(error))}") from error
    name = vocab.get(eos_id)
    special = {} if name is None else {"eos_token": name, "pad_token": name}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "clean_up_tokenization_spaces": False,
        "model_max_length": int(1e30), **special,
    }  # fmt: skip
