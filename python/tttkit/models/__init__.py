"""Language models behind one registry. Names are loaded on first use, so that importing this package costs no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tttkit.config.model import ModelConfig as ModelConfig
    from tttkit.models.compiled import CompiledModel as CompiledModel
    from tttkit.models.compiled import compiled as compiled
    from tttkit.models.language_model import LanguageModel as LanguageModel
    from tttkit.models.load import load_scoring_model as load_scoring_model
    from tttkit.models.official import from_official as from_official
    from tttkit.models.official import to_official as to_official
    from tttkit.models.registry import build_model as build_model
    from tttkit.models.state import ModelState as ModelState
    from tttkit.models.storage import load_model as load_model
    from tttkit.models.storage import read_model_config as read_model_config
    from tttkit.models.storage import save_model as save_model

_HOMES = {
    "CompiledModel": "tttkit.models.compiled",
    "LanguageModel": "tttkit.models.language_model",
    "ModelConfig": "tttkit.config.model",
    "ModelState": "tttkit.models.state",
    "build_model": "tttkit.models.registry",
    "compiled": "tttkit.models.compiled",
    "from_official": "tttkit.models.official",
    "load_scoring_model": "tttkit.models.load",
    "load_model": "tttkit.models.storage",
    "read_model_config": "tttkit.models.storage",
    "save_model": "tttkit.models.storage",
    "to_official": "tttkit.models.official",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
