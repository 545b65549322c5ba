"""report.html: findings, criteria, interactive curves, tables and configuration in one file that needs no network.

The page holds text, the figures as JSON, and the scripts `chart.js` and `page.js`, which draw inline SVG. All text of a
run is escaped, in the page and in the JSON, so that a run named `<script>` stays text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tttkit.analyze.curves import load_curves, load_means
from tttkit.analyze.finding import Findings
from tttkit.analyze.findings import find
from tttkit.analyze.full_evaluations import dynamic_rows
from tttkit.analyze.record import Record, load
from tttkit.health.status import read_status
from tttkit.report.criteria import criteria
from tttkit.report.opening import opening
from tttkit.report.page.document import document
from tttkit.report.page.model_sections import diagnosis_sections, quality_sections, recall_sections
from tttkit.report.page.page_data import page_data
from tttkit.report.page.tables import criteria_table, dynamic_table, escape, evaluations_table, settings_tables
from tttkit.run.directory import RunDirectory
from tttkit.run.parent import describe_parent
from tttkit.storage import files

REPORT_NAME = "report.html"


def write_page(run: RunDirectory, target: Path, against: Sequence[RunDirectory] = ()) -> Path:
    """Write report.html of a run into the folder `target`; return its path.

    It also shows the last curves of the runs `against`. Raises UsageError when a run has no evaluation yet, DataError
    when a file is damaged, DiskFullError.
    """
    record = load(run)
    target.mkdir(parents=True, exist_ok=True)
    path = target / REPORT_NAME
    files.write_text(path, render_page(run, record, find(record), read_status(run).state, against))
    return path


def render_page(
    run: RunDirectory, record: Record, findings: Findings, state: str, against: Sequence[RunDirectory] = ()
) -> str:
    """Return report.html as text. `state` is the run's status, for example `finished`. Raises as `write_page` does."""
    # For some runs, the earlier system kept only means, which make no curve.
    curves = [] if load_means(run) else load_curves(run)
    summaries = [item.summary for item in record.evaluations]
    best = record.metadata.get("early_stopping", {}).get("best_checkpoint")
    data = page_data(curves, summaries, record.metrics, best, against)
    body = [
        '<a class="skip" href="#findings">to the findings</a>',
        _header(record, findings, state, num_shown=len(data["evaluations"])),
        "<main>",
        _findings(record, findings),
        "<h2>Success criteria</h2>",
        criteria_table(criteria(record, findings, state)),
        _curves(data) if curves else "",
        evaluations_table(summaries, data["labels"], best),
        dynamic_table(dynamic_rows(record)),
        recall_sections(run),
        diagnosis_sections(run),
        quality_sections(run),
        "<h2>Configuration and environment</h2>",
        settings_tables(record.metadata),
        f'</main><footer><p class="soft">Made by tttkit from the files of the run {escape(record.name)}.</p></footer>',
    ]
    return document(record.name, "\n".join(body), data)


def _header(record: Record, findings: Findings, state: str, *, num_shown: int) -> str:
    count = findings.num_checkpoints
    step = findings.last_step
    facts = [
        record.model or "",
        "" if step is None else f"step {step:,}",
        "" if state == "unknown" else state,
        f"started from {parent}" if (parent := describe_parent(record.metadata, whole_path=False)) else "",
        f"{count} evaluations" + (f", {num_shown} of them in the curves" if 0 < num_shown < count else ""),
    ]
    return (
        f"<header><div><h1>{escape(record.name)}</h1>"
        f"<p>{escape(' · '.join(fact for fact in facts if fact))}</p></div>"
        '<button id="theme" type="button">light or dark</button></header>'
    )


def _findings(record: Record, findings: Findings) -> str:
    """Return the opening as a paragraph, and below it every finding with its topic in bold."""
    items = [f"<li><b>{_topic(item.topic)}</b>: {_with_code(item.statement)}</li>" for item in findings.items]
    return (
        f'<h2 id="findings">Findings</h2>\n<p class="opening">{_with_code(" ".join(opening(record, findings)))}</p>\n'
        f"<ul>{''.join(items)}</ul>"
    )


def _topic(name: str) -> str:
    return escape(name.replace("_", " "))


def _with_code(sentence: str) -> str:
    """Return a sentence in which names in backquotes are set as code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(sentence))


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
                "Dots: computed at the labelled positions only. Faint lines: the last evaluation.",
            ),
            _figure(
                "ratios",
                "Ratio to the full context",
                "Above 1 the full context is better. Bands and bars: 95 % intervals.",
            ),
            _figure("evolution", "Perplexity over training, full context", "One line per labelled position."),
            _figure("training", "Training loss", "The smoothed loss is drawn over the logged losses."),
            "</div>",
        ]
    )


def _controls(data: dict[str, Any]) -> str:
    last = len(data["evaluations"]) - 1
    contexts = "".join(
        _checkbox(f"context-{item['name']}", item["name"], on=True, hint=item["description"])
        for item in data["contexts"]
    )
    others = "".join(
        _checkbox(f"baseline-{index}", other["name"], on=True) for index, other in enumerate(data["baselines"])
    )
    return (
        '<form id="controls" aria-label="what the curves show" onsubmit="return false"><div id="slide">'
        f'<label for="step">evaluation</label>'
        f'<input id="step" type="range" min="0" max="{last}" value="{last}" step="1">'
        '<output id="step-text" for="step" aria-live="polite"></output></div>'
        f"<fieldset><legend>contexts</legend>{contexts}</fieldset>"
        + (f"<fieldset><legend>other runs</legend>{others}</fieldset>" if others else "")
        + f"<fieldset><legend>axes</legend>{_checkbox('log-x', 'log position', on=False)}"
        f"{_checkbox('log-y', 'log perplexity', on=True)}</fieldset></form>"
    )


def _checkbox(name: str, label: str, *, on: bool, hint: str = "") -> str:
    checked = " checked" if on else ""
    title = f' title="{escape(hint)}"' if hint else ""
    return f'<label{title}><input type="checkbox" name="{escape(name)}"{checked}> {escape(label)}</label>'


def _figure(name: str, title: str, note: str) -> str:
    return (
        f'<figure id="{name}"><figcaption><div><h3>{escape(title)}</h3><ul class="legend"></ul></div>'
        f'<button type="button" class="whole">whole range</button></figcaption>'
        f'<p class="reading" aria-live="polite">{escape(note)}</p></figure>'
    )
