"""The models that a benchmark of training times side by side: ours, its peer, and the official code."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from tttkit.errors import UsageError
from tttkit.models import LanguageModel, build_model, compiled, to_official
from tttkit.models.convert import official_config, official_obstacle
from tttkit.models.hugging_face.same_size import module_of_same_kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Runner:
    """A model that is ready to be timed."""

    name: str
    module: nn.Module
    loss: Callable[[Tensor], Tensor]
    """Mean cross-entropy of windows (B, W + 1)."""
    how: str


def make_runners(model: LanguageModel, *, compile_blocks: bool, official: Path | None) -> list[Runner]:
    """Return the model and its peers, ready to run. A peer of transformers takes part if that is installed."""
    runners = [our_runner(model, compile_blocks=compile_blocks)]
    peer = model.config.as_transformer()
    if peer.name != model.config.name:
        runners.append(our_runner(build_model(peer, seed=0).to(model.device), compile_blocks=compile_blocks))
    if importlib.util.find_spec("transformers") and (same_kind := _same_kind(model)):
        runners.append(same_kind)
    if official is not None:
        runners.append(_official(official, model))
    return runners


def our_runner(model: LanguageModel, *, compile_blocks: bool) -> Runner:
    """Return one of our models, compiled if it is asked for and possible."""
    run = compiled(model, enabled=compile_blocks)
    return Runner(
        name=model.config.name, module=model, loss=lambda ids: run(ids[:, :-1], targets=ids[:, 1:]), how=run.reason
    )


def _same_kind(model: LanguageModel) -> Runner | None:
    """Return the model of transformers of the same kind and size; None if there is none."""
    found = module_of_same_kind(model.config, sum(each.numel() for each in model.parameters()))
    if found is None:
        return None
    name, module = found
    return Runner(name=name, module=module.to(model.device).train(), loss=partial(_loss_of_logits, module), how="eager")


def _loss_of_logits(module: nn.Module, ids: Tensor) -> Tensor:
    logits = module(input_ids=ids[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())


def _official(path: Path, model: LanguageModel) -> Runner:
    """Load the official code at `path` (its directory or its ttt.py), with the weights of `model`."""
    config = model.config
    obstacle = official_obstacle(config)
    if obstacle is not None:
        raise UsageError(obstacle, hint="leave --official out")
    file = path / "ttt.py" if path.is_dir() else path
    spec = importlib.util.spec_from_file_location("official_ttt", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise UsageError(f"no ttt.py at {path}", hint="--official takes a checkout of the official PyTorch code")
    module = importlib.util.module_from_spec(spec)
    # dataclasses and transformers look the module up by name
    sys.modules["official_ttt"] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        raise UsageError(f"the official code cannot be loaded: {error}", hint="pip install 'transformers<5'") from error
    built: Any = module.TTTForCausalLM(module.TTTConfig(**official_config(config), use_cache=False))
    weights = dict(to_official(model))
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    built.load_state_dict(weights)
    built.to(model.device).train()
    return Runner(name="official", module=built, loss=partial(_loss_of_logits, built), how="eager")
