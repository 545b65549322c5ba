"""Names, output directories and texts of the models that `tttkit eval checkpoint` and `tttkit recall` measure."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from tttkit.errors import UsageError

if TYPE_CHECKING:
    from tttkit.evaluate.request import EvaluationRequest


def names_of(paths: list[Path]) -> list[str]:
    """Return the folder names of the models, with the parent folder if two are the same. Raises UsageError."""
    absolute = [path.absolute() for path in paths]
    names = [path.name for path in absolute]
    names = [f"{path.parent.name}/{path.name}" if names.count(path.name) > 1 else path.name for path in absolute]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"two models are both called {twice}", hint="name each model once, or evaluate them one by one"
        )
    return names


def targets_of(paths: list[Path], output: Path | None, verb: str = "eval") -> list[Path]:
    """Return the directory of each model's results: VERB_MODEL beside the model, or in `output`.

    Raises UsageError if `output` is a file.
    """
    if output is not None:
        if output.is_file():
            raise UsageError(f"{output} is a file", hint="--out names a directory; it is made if it is missing")
        return [output] if len(paths) == 1 else [output / name.replace("/", "-") for name in names_of(paths)]
    # a model of the hub has no place of its own
    return [
        Path(f"{verb}_" + str(path).removeprefix("hf:").replace("/", "-"))
        if str(path).startswith("hf:")
        else path.parent / f"{verb}_{path.name}"
        for path in paths
    ]


def with_text(request: EvaluationRequest, target: Path, texts: list[Path]) -> EvaluationRequest:
    """Return the request with the text files, prepared by the model's own tokenizer beside the results."""
    from tttkit.evaluate.own_text import SPLIT, prepare_own_text

    data = prepare_own_text(texts, request.path, target.parent)
    return dataclasses.replace(request, data=data, split=SPLIT)
