"""Measure prefill and decoding by context length, beside a Transformer, GPT-2 and Mamba-2 of the same size.

    python benchmarks/inference.py reference|small OUT [--threads 1] [--filled]

`reference` has 152.6M parameters and contexts up to 4,096 tokens. `small` has 1.1M parameters and contexts up to 65,536
tokens, with 8 texts up to 4,096. All weights are random. OUT gets inference.json and inference.png, a figure of the
processor's time: with one thread that is the time of an idle machine.

`--filled` measures decoding alone. Contexts are not read, which takes attention many minutes at 65,536 tokens: a cache
gets the keys and values of 64 tokens again and again. Its size decides the speed, its content does not.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tttkit.config.presets import preset_values
from tttkit.infer.benchmark import measure_inference
from tttkit.models import ModelConfig, build_model
from tttkit.models.generation import GenerativeModel
from tttkit.models.hugging_face.same_size import models_of_same_size
from tttkit.models.state import ModelState
from tttkit.report.figures.inference import plot_inference
from tttkit.storage.files import make_directory, write_json

SIZES = {
    "reference": (ModelConfig.preset("ttt-125m"), {1: (64, 1024, 4096)}),
    "small": (
        ModelConfig(vocab_size=2048, **preset_values("quick")["model"]),
        {1: (64, 256, 1024, 4096, 16384, 65536), 8: (64, 256, 1024, 4096)},
    ),
}
"""Configuration, and contexts by batch size."""
NUM_TOKENS, ROUNDS = 16, 5
FILLED_CONTEXTS = {1: (64, 256, 1024, 4096, 16384, 65536), 8: (64, 256, 1024, 4096, 16384)}
READ = 64
"""Tokens whose keys and values fill a cache."""


def of_processor(row: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a row by processor time."""
    return {
        "tokens_per_second": row["batch_size"] / row["cpu_seconds_per_token"],
        "first_token_seconds": row["first_token_cpu_seconds"],
    }


def filled(state: Any, context: int) -> Any:
    """Return a copy of the state after `READ` tokens whose keys and values are those of `context` tokens."""
    times = (1, 1, context // READ, 1)
    if isinstance(state, ModelState):
        grown = state.map(lambda name, tensor: tensor.repeat(times) if name in ("keys", "values") else tensor)
        return dataclasses.replace(grown, position=context)
    cache = copy.deepcopy(state.cache)
    for layer in getattr(cache, "layers", []):
        if getattr(layer, "keys", None) is not None:
            layer.keys, layer.values = layer.keys.repeat(times), layer.values.repeat(times)
    return dataclasses.replace(state, cache=cache, position=context)


@torch.inference_mode()
def measure_decoding(models: Mapping[str, GenerativeModel], batch_size: int, context: int) -> list[dict[str, Any]]:
    """Return name, state and the least processor time per step of each model; the models decode in turns."""
    ids = torch.randint(0, 1000, (batch_size, READ), generator=torch.Generator().manual_seed(0))
    states = {
        name: filled(model.next_logits(ids, model.initial_state(batch_size))[1], context)
        for name, model in models.items()
    }
    seconds = dict.fromkeys(models, float("inf"))
    for _ in range(ROUNDS):
        for name, model in models.items():
            state = states[name].forked()
            started = time.process_time()
            for step in range(NUM_TOKENS):
                logits, state = model.next_logits(ids[:, step : step + 1], state)
                logits.argmax(-1)
            seconds[name] = min(seconds[name], (time.process_time() - started) / NUM_TOKENS)
    return [
        {
            "name": name, "batch_size": batch_size, "context": context, "cpu_seconds_per_token": seconds[name],
            "tokens_per_second": batch_size / seconds[name], "state_bytes": states[name].num_bytes,
        }
        for name in models
    ]  # fmt: skip


def measure_filled(models: Mapping[str, GenerativeModel], out: Path) -> None:
    """Measure decoding after all contexts and write inference.json and inference.png."""
    rows = []
    for batch_size, contexts in FILLED_CONTEXTS.items():
        for context in contexts:
            for row in measure_decoding(models, batch_size, context):
                rows.append(row)
                print(
                    f"{row['name']:25} {batch_size} x {context:6,}  {row['tokens_per_second']:8,.1f} tokens per CPU s  "
                    f"state {row['state_bytes'] / 1e6:8,.2f} MB",
                    flush=True,
                )
            write_json(out / "inference.json", {"schema_version": 1, "rows": rows})
    plot_inference(rows, out / "inference.png")


def main() -> None:
    """Measure one size; inference.json is written again after every context, so that a run can be cut short."""
    parser = argparse.ArgumentParser()
    parser.add_argument("size", choices=list(SIZES))
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--filled", action="store_true", help="measure decoding alone, without reading the contexts")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    make_directory(options.out)
    config, contexts = SIZES[options.size]
    model = build_model(config, seed=0).eval()
    num_parameters = sum(each.numel() for each in model.parameters())
    longest = max(max(lengths) for lengths in (FILLED_CONTEXTS if options.filled else contexts).values())
    models = {
        model.name: model,
        "transformer": build_model(config.as_transformer(), seed=0).eval(),
        **models_of_same_size(config, num_parameters, longest + NUM_TOKENS),
    }
    if options.filled:
        measure_filled(models, options.out)
        return
    rows = []
    for batch_size, lengths in contexts.items():
        for row in measure_inference(models, lengths, batch_sizes=[batch_size], num_tokens=NUM_TOKENS, rounds=ROUNDS):
            rows.append(row.to_dict())
            print(
                f"{row.name:25} {row.num_parameters:12,} {batch_size} x {row.context:6,}  "
                f"prefill {batch_size * row.context / row.first_token_cpu_seconds:8,.0f} tokens per CPU s  "
                f"decoding {batch_size / row.cpu_seconds_per_token:8,.1f} tokens per CPU s, "
                f"{row.tokens_per_second:8,.1f} tokens/s  state {row.state_bytes / 1e6:8,.2f} MB",
                flush=True,
            )
            write_json(options.out / "inference.json", {"schema_version": 1, "rows": rows})
    plot_inference([{**row, **of_processor(row)} for row in rows], options.out / "inference.png")


if __name__ == "__main__":
    main()
