"""The optional package transformers: imported late, and quiet while it loads a model."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any

from tttkit.errors import UsageError

_MOST_CHARACTERS = 300
"""Length of the part of a foreign message that is shown."""
INSTALL_HINT = "pip install 'tttkit[hf]'"


def import_transformers() -> Any:
    """Return the module transformers. Raises UsageError that says what to install if it is absent or cannot load."""
    try:
        import transformers
    except ImportError as error:
        raise UsageError(
            f"Hugging Face models need the package transformers, which cannot be imported: {error}", hint=INSTALL_HINT
        ) from error
    return transformers


def register_more_families() -> None:
    """Let flash-linear-attention register its model families, if it is installed."""
    if importlib.util.find_spec("fla") is not None:
        importlib.import_module("fla")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing progress bars and warnings; its settings are restored afterwards."""
    logging = import_transformers().utils.logging
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()


def one_line(error: BaseException) -> str:
    """Return a foreign message in one line, shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} …"
