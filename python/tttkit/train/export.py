"""Model directories: best_model, final_model. Nothing inside differs between equal runs."""

from __future__ import annotations

import shutil
from pathlib import Path

from tttkit import files
from tttkit.config import Config
from tttkit.data.split import Split
from tttkit.models import LanguageModel, save_model


def export_model(model: LanguageModel, path: Path, config: Config, split: Split) -> None:
    """Write config.json, model.safetensors and tokenizer.json to `path`, whole or not at all. Raises DiskFullError."""
    metadata = {"window": config.train.window, "tokenizer_sha256": split.tokenizer_sha256, "eos_token_id": split.eos_id}
    with files.commit_directory(path) as directory:
        save_model(model, directory, metadata=metadata)
        shutil.copyfile(split.tokenizer_path, directory / "tokenizer.json")
