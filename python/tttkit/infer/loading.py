"""Load a model that continues texts, with its tokenizer: of a run, ours, or any Hugging Face causal model."""

from __future__ import annotations

from pathlib import Path

from tttkit.data.hub import stay_offline_if_unreachable
from tttkit.errors import UsageError
from tttkit.infer.text import TextTokenizer, find_tokenizer
from tttkit.models.hugging_face.directory import read_config
from tttkit.models.load import find_model, load_scoring_model
from tttkit.models.scoring import LoadedModel


def load_generator(
    path: Path, *, tokenizer: str | None = None, dtype: str = "fp32", trust_remote_code: bool = False
) -> tuple[LoadedModel, TextTokenizer]:
    """Return the model that `path` names, on the CPU and in evaluation mode, and its tokenizer.

    `path` is a model directory, `hf:NAME[@REVISION]`, or a run, whose best model is used. `tokenizer` replaces that of
    the directory; the other options are those of `load_scoring_model`. Raises UsageError, DataError, NumericalError.
    """
    directory = generator_directory(path)
    spec = tokenizer or find_tokenizer(directory, read_config(directory))
    model = load_scoring_model(directory, dtype, trust_remote_code)
    return model, TextTokenizer(spec, model.vocab_size)


def generator_directory(path: Path) -> Path:
    """Return the model directory that `path` names: of a run that of its best model. Raises UsageError."""
    if str(path).startswith("hf:"):
        stay_offline_if_unreachable()
        return find_model(path)
    directory = path / "best_model" if (path / "metadata.json").exists() else path
    if directory != path and not directory.is_dir():
        raise UsageError(f"the run {path} has no best model yet", hint="the first evaluation writes it")
    if not directory.is_dir():
        raise UsageError(
            f"no such model directory: {directory}",
            hint="MODEL is a directory with config.json and model.safetensors, a run, or hf:NAME",
        )
    return directory
