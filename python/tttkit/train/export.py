"""Model directories: best_model, final_model. Nothing inside differs between equal runs."""

from __future__ import annotations

from pathlib import Path

from tttkit import commits, files
from tttkit.config import Config
from tttkit.data.split import Split
from tttkit.models import LanguageModel, save_model


def export_model(model: LanguageModel, path: Path, config: Config, split: Split) -> None:
    """Write config.json, model.safetensors and tokenizer.json to `path`, whole or not at all. Raises DiskFullError."""
    metadata = {"window": config.train.window, "tokenizer_sha256": split.tokenizer_sha256, "eos_token_id": split.eos_id}
    with commits.commit_directory(path) as directory:
        save_model(model, directory, metadata=metadata)
        files.write_new(directory / "tokenizer.json", [split.tokenizer_path.read_bytes()])
