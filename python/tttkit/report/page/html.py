"""One page to send around: findings, criteria, interactive curves, tables, configuration. One file, no network.

The page is text, inline SVG drawn by `chart.js` and `page.js`, and the figures as JSON. All that comes from a run
is escaped, in the text and in the JSON, so that a run named `<script>` stays text.
"""

from __future__ import annotations

import html
import json
import math
import re
import shlex
from collections.abc import Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from tttkit.analyze import legacy
from tttkit.config.layers import flatten
from tttkit.errors import UsageError
from tttkit.health.status import read_status
from tttkit.report.criteria import Criterion, criteria
from tttkit.report.curves import load_curves, load_means
from tttkit.report.page.page_data import page_data
from tttkit.run.directory import RunDirectory
from tttkit.storage import files

REPORT_NAME = "report.html"
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


def write_html(
    run: RunDirectory, path: Path, *, findings: Sequence[str] = (), against: Sequence[RunDirectory] = ()
) -> Path:
    """Write the page of a run, with the last curves of the runs `against` beside its own; returns `path`.

    `findings` are sentences of plain text. Raises UsageError when the run has no evaluation yet, DataError when a file
    is damaged, DiskFullError.
    """
    curves = [] if load_means(run) else load_curves(run)  # the earlier system kept means alone of some runs
    summaries, metadata = legacy.read_summaries(run), legacy.read_metadata(run)
    if not summaries:
        raise UsageError(f"{run.path} has no evaluation yet", hint=f"look at it with `tttkit status {run.argument}`")
    best = metadata.get("early_stopping", {}).get("best_checkpoint")
    data = page_data(curves, summaries, run.read_metrics(), best, against)
    body = _body(run, data, summaries, metadata, findings)
    files.write_text(path, _page(run.path.name or str(run.path), body, data))
    return path


def _page(title: str, body: str, data: dict[str, Any]) -> str:
    """The whole file. In the JSON `<` is spelled out, so that no text of a run can end the script element."""
    figures = json.dumps(files.json_safe(data), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    style, chart, script = (
        resources("tttkit.report.page").joinpath(name).read_text("utf-8")
        for name in ("page.css", "chart.js", "page.js")
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{_text(title)} · tttkit</title>\n<style>\n{style}</style>\n</head>\n'
        f'<body>\n{body}\n<script type="application/json" id="data">{figures}</script>\n'
        f"<script>\n{chart}{script}</script>\n"
        "</body>\n</html>\n"
    )


def _body(
    run: RunDirectory,
    data: dict[str, Any],
    summaries: list[dict[str, Any]],
    metadata: dict[str, Any],
    findings: Sequence[str],
) -> str:
    status = read_status(run)
    what = [
        status.model or "",
        f"step {status.step:,}" if status.step is not None else "",
        f"{status.state}: {status.reason}",
    ]
    num_checkpoints = len(summaries)
    fewer = f", {len(data['checkpoints'])} of them in the curves" if len(data["checkpoints"]) < num_checkpoints else ""
    return "\n".join(
        [
            '<a class="skip" href="#findings">to the findings</a>',
            f"<header><div><h1>{_text(run.path.name or str(run.path))}</h1>",
            f"<p>{_text(' · '.join(part for part in what if part))} · {num_checkpoints} evaluations{fewer}</p></div>",
            '<button id="theme" type="button">light or dark</button></header>\n<main>',
            f'<h2 id="findings">Findings</h2>{_list(findings)}' if findings else "",
            f"<h2{'' if findings else ' id=findings'}>Success criteria</h2>",
            _criteria(criteria(summaries, metadata, status)),
            _curves(data) if data["checkpoints"] else "",
            _evaluations(summaries, data["labels"], metadata.get("early_stopping", {}).get("best_checkpoint")),
            "<h2>Configuration and environment</h2>",
            _settings(metadata),
            f'</main><footer><p class="soft">Made by tttkit from the files of {_text(str(run.path))}.</p></footer>',
        ]
    )


def _curves(data: dict[str, Any]) -> str:
    return "\n".join(
        [
            "<h2>Curves</h2>",
            _controls(data),
            "<noscript><p>The curves need JavaScript; the tables below hold their figures.</p></noscript>",
            '<div class="charts">',
            _figure(
                "positions",
                "Perplexity by position",
                "Dots: computed at the labelled positions only. Faint: the last checkpoint.",
            ),
            _figure(
                "ratios",
                "Ratio to the full context",
                "Above 1 the full context is better. Bands and bars: 95 % intervals.",
            ),
            _figure("evolution", "Perplexity over training, full context", "A line for each labelled position."),
            _figure("training", "Training loss", "Smoothed, over the losses as logged."),
            "</div>",
        ]
    )


def _controls(data: dict[str, Any]) -> str:
    def box(name: str, label: str, *, on: bool) -> str:
        checked = " checked" if on else ""
        return f'<label><input type="checkbox" name="{name}"{checked}> {_text(label)}</label>'

    last = len(data["checkpoints"]) - 1
    contexts = "".join(box(f"context-{name}", name, on=True) for name in data["contexts"])
    others = "".join(box(f"baseline-{index}", other["name"], on=True) for index, other in enumerate(data["baselines"]))
    return (
        '<form id="controls" aria-label="what the curves show" onsubmit="return false"><div id="slide">'
        f'<label for="step">checkpoint</label>'
        f'<input id="step" type="range" min="0" max="{last}" value="{last}" step="1">'
        '<output id="step-text" for="step" aria-live="polite"></output></div>'
        f"<fieldset><legend>contexts</legend>{contexts}</fieldset>"
        + (f"<fieldset><legend>other runs</legend>{others}</fieldset>" if others else "")
        + f"<fieldset><legend>axes</legend>{box('log-x', 'log position', on=False)}"
        f"{box('log-y', 'log perplexity', on=True)}</fieldset></form>"
    )


def _figure(name: str, title: str, note: str) -> str:
    return (
        f'<figure id="{name}"><figcaption><div><h3>{_text(title)}</h3><ul class="legend"></ul></div>'
        f'<button type="button" class="whole">whole range</button></figcaption>'
        f'<p class="reading" aria-live="polite">{_text(note)}</p></figure>'
    )


def _criteria(found: list[Criterion]) -> str:
    rows = [
        f'<tr><td>{_text(item.name)}</td><td><span class="{item.verdict}">{item.verdict}</span></td>'
        f"<td>{_text(item.evidence)}</td></tr>"
        for item in found
    ]
    head = "<thead><tr><th>criterion</th><th>met</th><th>evidence</th></tr></thead>"
    return f'<div class="scroll"><table class="words">{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _evaluations(summaries: list[dict[str, Any]], labels: list[int], best: int | None) -> str:
    heads = ["evaluation", "step", "tokens", "selection"]
    for multiple in labels:
        heads += [f"full {multiple}W", f"sw {multiple}W"] + (
            [f"{part} {multiple}W" for part in ("sw/full", "low", "high")] if multiple > 1 else []
        )
    rows = []
    for index, item in enumerate(summaries):
        number = item.get("checkpoint_idx", index)
        cells = [_cell(number, f"{number}{' (best)' if number == best else ''}")]
        cells += [_cell(item.get(key)) for key in ("step", "tokens_seen")]
        cells.append(_figure_cell(item.get("selection_ppl"), 2))
        for multiple in labels:
            cells += [_figure_cell(item.get(f"{name}_ppl_at_{multiple}xW"), 2) for name in ("ttt", "sw")]
            parts = ("", "ci_low_", "ci_high_") if multiple > 1 else ()
            cells += [_figure_cell(item.get(f"ratio_{part}at_{multiple}xW"), 3) for part in parts]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f'<th scope="col"><button type="button">{_text(name)}</button></th>' for name in heads)
    return (
        f'<div class="wide" style="--columns: {len(heads)}"><div class="tablehead"><h2>Evaluations</h2>'
        '<button type="button" data-copy="evaluations">copy</button></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="evaluations"><table class="data" id="evaluations">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></div>"
    )


def _settings(metadata: dict[str, Any]) -> str:
    """Configuration, data, environment and segments as tables of names and values."""
    parts = []
    command = shlex.join(str(part) for part in metadata.get("command", []))
    if command:
        parts.append(f"<p>command: <code>{_text(command)}</code></p>")
    sections = {
        name: metadata[name] for name in ("config", "data", "model", "environment", "result") if metadata.get(name)
    }
    if not sections:  # the earlier system kept its settings at the top
        sections = {"settings": {key: value for key, value in metadata.items() if not isinstance(value, dict | list)}}
    for name, values in sections.items():
        flat = flatten(values) if isinstance(values, dict) else {name: values}
        rows = "".join(f"<tr><td>{_text(key)}</td><td>{_text(_plain(value))}</td></tr>" for key, value in flat.items())
        opened = " open" if name == "config" else ""
        parts.append(
            f'<details{opened}><summary>{_text(name)}</summary><div class="scroll"><table class="words"><tbody>{rows}'
            "</tbody></table></div></details>"
        )
    return "\n".join(parts)


def _cell(value: Any, text: str | None = None) -> str:
    known = isinstance(value, int | float)
    shown = text or (_plain(value) if known else "–")
    return f'<td data-value="{value if known else "NaN"}">{_text(shown)}</td>'


def _figure_cell(value: Any, digits: int) -> str:
    """A figure with as many digits behind the point as the others of its column."""
    known = isinstance(value, int | float) and math.isfinite(value)
    return _cell(value, f"{value:,.{digits}f}" if known else None)


def _plain(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"


def _list(sentences: Sequence[str]) -> str:
    """Sentences, what they are about in bold before a colon; a name in backquotes is set as one."""
    items = []
    for sentence in sentences:
        topic, colon, rest = _text(sentence).partition(": ")
        text = f"<b>{topic}</b>: {rest}" if colon else topic
        items.append("<li>" + re.sub("`([^`]*)`", r"<code>\1</code>", text) + "</li>")
    return f"<ul>{''.join(items)}</ul>"


def _text(value: str) -> str:
    return html.escape(value, quote=True)
