"""Tables of report.html: success criteria, evaluations, settings. All text of a run is escaped."""

from __future__ import annotations

import html
import shlex
from collections.abc import Sequence
from typing import Any

from tttkit.config.layers import flatten
from tttkit.report.criteria import Criterion
from tttkit.results.figures import Ratio
from tttkit.results.summary import Summary

_SECTIONS = ("config", "data", "model", "environment", "result")


def escape(value: str) -> str:
    """Return text that stays text inside HTML and inside its attributes."""
    return html.escape(value, quote=True)


def criteria_table(criteria: Sequence[Criterion]) -> str:
    """Return the success criteria with answer and evidence."""
    rows = [
        f'<tr><td>{escape(item.name)}</td><td><span class="{item.verdict}">{item.verdict}</span></td>'
        f"<td>{escape(item.evidence)}</td></tr>"
        for item in criteria
    ]
    head = "<thead><tr><th>criterion</th><th>met</th><th>evidence</th></tr></thead>"
    return f'<div class="scroll"><table class="words" id="criteria">{head}<tbody>{"".join(rows)}</tbody></table></div>'


def evaluations_table(summaries: Sequence[Summary], labels: Sequence[int], best: int | None) -> str:
    """Return a row per evaluation, with full context and sliding window at each label and their ratio beyond 1 x W."""
    heads = ["evaluation", "step", "tokens", "selection"]
    for label in labels:
        heads += [f"full {label}W", f"sw {label}W"]
        heads += [f"{part} {label}W" for part in ("sw/full", "low", "high")] if label > 1 else []
    rows = [_evaluation_row(index, summary, labels, best) for index, summary in enumerate(summaries)]
    head = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in heads)
    return (
        f'<div class="wide" style="--columns: {len(heads)}"><div class="tablehead"><h2>Evaluations</h2>'
        '<button type="button" data-copy="evaluations">copy</button></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="evaluations"><table class="data" id="evaluations">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></div>"
    )


def dynamic_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the evaluations in the context `dynamic`, with its settings; nothing if there are none."""
    if not rows:
        return ""
    heads = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    lines = ["".join(f"<td>{escape(_rounded(value))}</td>" for value in row.values()) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        "<h2>Weights that learn from the text that was scored (dynamic)</h2>"
        f'<div class="scroll"><table class="words" id="dynamic"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def settings_tables(metadata: dict[str, Any]) -> str:
    """Return the command, and configuration, data, environment and result as tables of names and values."""
    parts = []
    command = shlex.join(str(part) for part in metadata.get("command", []))
    if command:
        parts.append(f"<p>Command: <code>{escape(command)}</code></p>")
    sections = {name: metadata[name] for name in _SECTIONS if metadata.get(name)}
    if not sections:
        # The earlier system kept its settings at the top level.
        sections = {"settings": {key: value for key, value in metadata.items() if not isinstance(value, dict | list)}}
    for name, values in sections.items():
        flat = flatten(values) if isinstance(values, dict) else {name: values}
        rows = "".join(
            f"<tr><td>{escape(key)}</td><td>{escape(_plain(value))}</td></tr>" for key, value in flat.items()
        )
        opened = " open" if name == "config" else ""
        parts.append(
            f'<details{opened}><summary>{escape(name)}</summary><div class="scroll"><table class="words"><tbody>{rows}'
            "</tbody></table></div></details>"
        )
    return "\n".join(parts)


def _evaluation_row(position: int, summary: Summary, labels: Sequence[int], best: int | None) -> str:
    index = position if summary.index is None else summary.index
    cells = [_cell(index, f"{index}{' (best)' if index == best else ''}"), _cell(summary.step), _cell(summary.tokens)]
    cells.append(_figure(summary.selection_ppl, 2))
    for label in labels:
        cells += [_figure(summary.perplexity(context, label), 2) for context in ("full", "sw")]
        cells += _ratio_cells(summary.ratio("sw", label)) if label > 1 else []
    return f"<tr>{''.join(cells)}</tr>"


def _ratio_cells(ratio: Ratio) -> list[str]:
    return [_figure(value, 3) for value in (ratio.value, ratio.low, ratio.high)]


def _cell(value: float | None, text: str | None = None) -> str:
    """Return a cell that sorts by its value."""
    shown = "–" if value is None else text or _plain(value)
    return f'<td data-value="{"NaN" if value is None else value}">{escape(shown)}</td>'


def _figure(value: float | None, digits: int) -> str:
    """Return a cell with `digits` decimals, the same number in its whole column."""
    return _cell(value, None if value is None else f"{value:,.{digits}f}")


def _rounded(value: Any) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else "–" if value is None else str(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
