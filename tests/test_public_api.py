"""The public library surface. A change here is a breaking change and must be listed in CHANGELOG.md."""

from __future__ import annotations

import importlib
import inspect

import pytest

SURFACE = {
    "tttkit.data": {
        "encode_documents": "(texts, tokenizer, *, threads)",
        "prepare_dataset": "(sources, out, tokenizer, validation, validation_fraction, threads, *, documents, "
        "document_pattern, text_field, source_format, bad_utf8, bad_records, eos, special_in_text, pattern, "
        "shard_tokens, progress, engine)",
        "open_split": "(path, name, *, io)",
        "load_manifest": "(path)",
        "WindowSampler": "(split, *, window, batch_size, seed, rank, world_size)",
        "ContiguousSampler": "(split, *, window, batch_size, seed, rank, world_size)",
    },
    "tttkit.models": {
        "build_model": "(config, *, seed)",
        "load_model": "(directory)",
        "load_scoring_model": "(path, dtype, trust_remote_code)",
        "save_model": "(model, directory, metadata)",
        "compiled": "(model, *, enabled)",
        "from_official": "(config, state_dict)",
        "to_official": "(model, *, grads)",
    },
    "tttkit.evaluate": {
        "token_nll": "(model, tokens, context, *, window, positions, segment, bos, dynamic, progress, share, measure)",
        "chunk_perplexity": "(nll, window, chunk_size, chunk_stride, aggregate, legacy, x_axis)",
        "paired_bootstrap": "(nll_full, nll_sw, chunk_size, chunk_stride, num_resamples, seed, statistic, groups)",
    },
}
FUNCTIONS = [(module, name) for module, names in SURFACE.items() for name in names]


def shape(function) -> str:
    """Return the names of the parameters, with the star before the keyword-only ones."""
    names, starred = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            starred = True
            names.append("*")
        names.append(parameter.name)
    return f"({', '.join(names)})"


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_signatures_are_pinned(module, name):
    assert shape(getattr(importlib.import_module(module), name)) == SURFACE[module][name]


@pytest.mark.parametrize("module", SURFACE)
def test_everything_public_exists_and_is_documented(module):
    package = importlib.import_module(module)
    assert set(SURFACE[module]) <= set(package.__all__)
    for name in package.__all__:
        assert inspect.getdoc(getattr(package, name)), f"{module}.{name} has no docstring"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def test_attributes_of_the_design():
    from tttkit.data import Split, WindowSampler
    from tttkit.evaluate.bootstrap import PairedBootstrap
    from tttkit.evaluate.chunks import ChunkPerplexity
    from tttkit.models import LanguageModel, ModelConfig

    assert all(hasattr(Split, name) for name in ("num_tokens", "num_documents", "vocab_size", "tokens"))
    assert all(hasattr(WindowSampler, name) for name in ("batch", "windows_per_epoch"))
    # Every torch module has a `forward`, so it must be a definition of the class itself.
    assert {"initial_state", "step", "forward"} <= set(vars(LanguageModel))
    assert {"centers", "ends", "mean_nll", "num_tokens"} <= set(ChunkPerplexity.__dataclass_fields__)
    assert all(hasattr(ChunkPerplexity, name) for name in ("perplexity", "at_multiple"))
    assert all(hasattr(PairedBootstrap, name) for name in ("ratio", "ratio_low", "ratio_high"))
    assert "difference" in PairedBootstrap.__dataclass_fields__
    assert ModelConfig.preset("ttt-125m").hidden_size == 768
