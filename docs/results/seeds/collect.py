"""Evaluate the finished runs here and add their perplexities to results.json.

`python collect.py RUN…` reads 64 sequences of 1,280 tokens, `python collect.py --long RUN…` 32 of 6,400. `final`, made
by data.sh, holds the text. A model whose results are in results.json already is left out, so the command can be
repeated while runs.sh goes on. The weights of sw are evaluated with sinks and as a transformer too, because on windows
of W these are one model.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from tttkit.config.dynamic import DynamicConfig
from tttkit.config.run import EvaluationConfig
from tttkit.data import open_split
from tttkit.device import prepare_cpu
from tttkit.evaluate import evaluate_model
from tttkit.evaluate.dynamic import DynamicRule
from tttkit.models import LanguageModel, build_model, load_model
from tttkit.results.summary import Summary
from tttkit.storage.files import write_text

RESULTS = Path(__file__).resolve().parent / "results.json"
WINDOW = 64
NUM_SEQUENCES = {20: 64, 100: 32}
"""Number of sequences by their length in windows."""
READ_BY = {
    20: {"sw": ("sw", "sw-sinks", "transformer"), "large-sw": ("large-sw-sinks",)},
    100: {"sw": ("sw-sinks",), "large-sw": ("large-sw-sinks",)},
}
"""Models that read with the weights of a run of sw, by length."""
DYNAMIC_RATES = {
    "sw": 0.032, "transformer": 0.1, "gdn": 0.032, "gdn-hybrid": 0.032, "ttt-decay-token": 0.032,
    "ttt-parallel-decay": 0.032,
}  # fmt: skip
"""Learning rates of the context `dynamic`, by model: those of `tttkit eval tune-dynamic` for seed 1."""


def main() -> None:
    """Add a row for each model of each run that is finished."""
    length = 100 if "--long" in sys.argv else 20
    prepare_cpu()
    rows = json.loads(RESULTS.read_text())
    known = {(row["model"], row["seed"], row["length_in_windows"]) for row in rows}
    for path in (Path(argument) for argument in sys.argv[1:] if argument != "--long"):
        run, _, seed = path.name.rpartition("-")
        for name in READ_BY[length].get(run, (run,)):
            if (name, int(seed), length) in known or not (path / "final_model").exists():
                continue
            model = as_named(load_model(path / "final_model"), name)
            trained = Summary.read_all(path / "all_summaries.json")[-1]
            facts = {"model": name, "seed": int(seed), "selection_ppl": round(float(trained.selection_ppl), 3)}
            rows.append(facts | measured(model, length, DYNAMIC_RATES.get(name) if length == 20 else None))
            rows.sort(key=lambda row: (row["model"], row["seed"], row["length_in_windows"]))
            write_text(RESULTS, "[" + ",\n".join(json.dumps(row) for row in rows) + "]\n")


def as_named(model: LanguageModel, name: str) -> LanguageModel:
    """Return the model that reads with the weights of sw, or the model itself."""
    if not name.endswith(("sw-sinks", "transformer")):
        return model
    with_sinks = dataclasses.replace(model.config, sink="tokens")
    other = build_model(model.config.as_transformer() if name == "transformer" else with_sinks)
    other.load_state_dict(model.state_dict())
    return other.eval()


def measured(model: LanguageModel, length: int, dynamic_rate: float | None) -> dict[str, object]:
    """Return the perplexities of a model on sequences of `length` windows, with a rate in the context `dynamic` too."""
    protocol = EvaluationConfig(
        num_sequences=NUM_SEQUENCES[length], max_length=length * WINDOW, sw_mode="positions", selection_windows=1
    )
    rule = None if dynamic_rate is None else DynamicRule(config=DynamicConfig(learning_rate=dynamic_rate))
    evaluation = evaluate_model(model, open_split("final", "validation"), protocol, window=WINDOW, dynamic=rule)
    summary = evaluation.summary()
    return {
        "length_in_windows": length, "sequences": protocol.num_sequences, "documents": summary.num_documents,
        "perplexity": {
            context: {str(label): round(float(summary.perplexity(context, label)), 3) for label in summary.labels()}
            for context in evaluation.nll
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
