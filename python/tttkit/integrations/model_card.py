"""The model card (README.md) of an exported model, with the table of the protocol if the model was evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tttkit.errors import DataError
from tttkit.models import LanguageModel
from tttkit.results.contexts import contexts_to_show
from tttkit.results.summary import SUMMARY_NAME, Summary


def model_card(model: LanguageModel, directory: Path, others: Mapping[str, Any]) -> str:
    """Return the Markdown of the card; `directory` is the model's, beside which its evaluation lies."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    window = others.get("window")
    trained = f", trained on windows of {window} tokens" if isinstance(window, int) else ""
    summary = _summary(directory)
    table = _table(summary) if summary is not None else _NOT_MEASURED
    return _CARD.format(name=model.config.name, parameters=f"{parameters:,}", trained=trained, table=table)


def _summary(directory: Path) -> Summary | None:
    """Return the evaluation of a model by `tttkit eval`; None if there is none that can be read."""
    places = (directory.parent / f"eval_{directory.name}", directory.parent)
    for place in places:
        try:
            return Summary.read(place / SUMMARY_NAME)
        except DataError:
            continue
    return None


def _table(summary: Summary) -> str:
    """Return the perplexity of every context at every label, and the ratio of `sw` to `full` with its interval."""
    contexts = contexts_to_show(summary.contexts())
    rows = [["position", *contexts, "SW/full [95 %]"]]
    for multiple in summary.labels():
        ratio = summary.ratio("sw", multiple)
        known = None not in (ratio.value, ratio.low, ratio.high)
        cell = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" if known else "-"
        figures = [summary.perplexity(context, multiple) for context in contexts]
        rows.append([f"{multiple} x W", *("-" if each is None else f"{each:,.2f}" for each in figures), cell])
    rows.insert(1, ["---"] * len(rows[0]))
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    facts = f"W = {summary.window} tokens, {summary.num_sequences} sequences of {summary.max_length} tokens"
    return f"Perplexity by context and position ({facts}):\n\n{lines}"


_NOT_MEASURED = "It has not been measured yet: `tttkit eval checkpoint DIRECTORY --data DATA` does so."
_CARD = """---
library_name: transformers
pipeline_tag: text-generation
tags: [tttkit, {name}]
---

# {name}

A `{name}` language model of tttkit with {parameters} parameters{trained}.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(DIRECTORY, trust_remote_code=True)  # needs `pip install 'tttkit[hf]'`
tokenizer = AutoTokenizer.from_pretrained(DIRECTORY, trust_remote_code=True)
text = model.generate(**tokenizer("It was", return_tensors="pt", return_token_type_ids=False), max_new_tokens=50)
print(tokenizer.decode(text[0]))
```

## How far past its window it works

{table}

`full` carries the state from the first token; the other contexts give the same weights a window of W tokens.
"""
