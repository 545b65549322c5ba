"""quality.html: figures of what models write, and samples side by side for a person to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tttkit.report.page.document import document
from tttkit.report.page.model_sections import figures_table, left_out_list, words_table
from tttkit.report.page.tables import escape
from tttkit.results.quality import Quality, metrics_of, shown
from tttkit.storage import files


def write_quality_page(
    results: Sequence[tuple[str, Quality]], differences: Sequence[Mapping[str, Any]], path: Path
) -> Path:
    """Write the page and return its path. `differences` are those of `quality.differences`."""
    first = results[0][1]
    facts = (
        f"{first.values.get('num_prompts')} prompts of {first.values.get('split')}, continued by "
        f"{first.values.get('max_tokens')} tokens; intervals are 95 % intervals over prompts"
    )
    tables = [
        f"<h3>{escape(name)}</h3>{figures_table(result)}{left_out_list(result.left_out)}" for name, result in results
    ]
    body = [
        f"<header><div><h1>What the models write</h1><p>{escape(facts)}.</p></div></header><main>",
        "<h2>Figures</h2>", *tables, differences_table(differences), "<h2>Samples</h2>",
        '<p class="soft">The prompt ends with the bold text. Every column continues it.</p>',
        *(_sample(index, results) for index in range(len(first.values.get("samples", [])))),
        "</main>",
    ]  # fmt: skip
    files.write_text(path, document("What the models write", "\n".join(body)))
    return path


def differences_table(differences: Sequence[Mapping[str, Any]]) -> str:
    """Return the paired differences as a table; empty if there are none."""
    if not differences:
        return ""
    keys, metrics = ("model", "prompt", "method"), metrics_of(differences)
    rows = [
        [*(str(row[key]) for key in keys), *(shown(name, row["differences"].get(name), ratio=True) for name in metrics)]
        for row in differences
    ]
    note = f"Paired by prompt{'; perplexity as a ratio' if 'judge_nll' in metrics else ''}."
    title = f"Difference from {escape(differences[0]['minus'])}"
    return f'<h3>{title}</h3><p class="soft">{note}</p>{words_table([*keys, *metrics.values()], rows)}'


def _sample(index: int, results: Sequence[tuple[str, Quality]]) -> str:
    """Return one prompt with the real text and the continuations of all models."""
    sample = results[0][1].values["samples"][index]
    columns = [("real text", sample["text"])]
    for name, result in results:
        samples = result.values.get("samples", [])
        if index < len(samples) and samples[index]["prompt"] == sample["prompt"]:
            columns += [
                (f"{name}, {result.prompt_of(each)}, {each['method']}", each["text"])
                for each in samples[index]["continuations"]
            ]
    cells = "".join(
        f'<div style="flex:1 1 15rem;max-width:24rem"><h4>{escape(head)}</h4>{_text(text)}</div>'
        for head, text in columns
    )
    return (
        f"<section><h3>Prompt {index + 1}</h3><div><b>{_text(sample['prompt'])}</b></div>"
        f'<div style="display:flex;flex-wrap:wrap;gap:0 1.5rem">{cells}</div></section>'
    )


def _text(text: str) -> str:
    """Return a text with its line breaks; one of many lines, as greedy decoding writes them, scrolls."""
    style = "white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem;max-height:20rem;overflow-y:auto"
    return f'<p style="{style}">{escape(text)}</p>'
