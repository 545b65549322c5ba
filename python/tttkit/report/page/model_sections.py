"""Sections of report.html about single models: why they hold up or not, and what they write."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from tttkit.report.page.tables import escape
from tttkit.results.diagnose import COLUMNS, FIGURE_NAME, diagnoses_of
from tttkit.results.quality import Quality, qualities_of
from tttkit.results.recall import FIGURE_NAME as RECALL_FIGURE
from tttkit.results.recall import recalls_of
from tttkit.run.directory import RunDirectory

_MOST_ON_ONE_LINE = 8


def diagnosis_sections(run: RunDirectory) -> str:
    """Return figure and table of every diagnosis of the run's models; empty without one. Raises DataError."""
    parts = []
    for name, directory, diagnosis in diagnoses_of(run.path):
        rows = [[row[column] for column in COLUMNS] for row in diagnosis.table_rows()]
        parts.append(
            f"<h3>{escape(name)}, n = {diagnosis.values.get('num_sequences')} texts</h3>"
            f"{picture(directory / FIGURE_NAME, f'diagnosis of {name}')}{words_table(COLUMNS, rows)}"
            + left_out_list(diagnosis.left_out)
        )
    return "\n".join(["<h2>Why: state, memory, key tokens</h2>", *parts]) if parts else ""


def quality_sections(run: RunDirectory) -> str:
    """Return the table of what each of the run's models writes; empty without results. Raises DataError."""
    parts = [
        f"<h3>{escape(name)}, n = {quality.values.get('num_prompts')} prompts</h3>"
        + figures_table(quality)
        + left_out_list(quality.left_out)
        for name, quality in qualities_of(run.path)
    ]
    return "\n".join(["<h2>What the models write</h2>", *parts]) if parts else ""


def figures_table(quality: Quality) -> str:
    """Return the figures of what a model writes as a table."""
    rows = quality.table_rows()
    return words_table(list(rows[0]), [list(row.values()) for row in rows])


def recall_sections(run: RunDirectory) -> str:
    """Return figure and table of every recall of the run's models; empty without one. Raises DataError."""
    parts = []
    for name, directory, recall in recalls_of(run.path):
        rows = recall.table_rows()
        title = f"{escape(name)}, {escape(recall.task)}, n = {recall.values.get('num_examples')}"
        drawn = picture(directory / RECALL_FIGURE, f"recall of {name}")
        table = words_table(list(rows[0]), [list(row.values()) for row in rows])
        parts.append(f"<h3>{title}</h3>{drawn}{table}{left_out_list(recall.left_out)}")
    return "\n".join(["<h2>Recall: what the models remember</h2>", *parts]) if parts else ""


def left_out_list(reasons: Mapping[str, str]) -> str:
    """Return why parts were not measured as a list; empty if nothing was left out."""
    items = "".join(f"<li>{escape(part.replace('_', ' '))}: {escape(reason)}</li>" for part, reason in reasons.items())
    return f"<p>Left out:</p><ul>{items}</ul>" if items else ""


def words_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts.

    With many columns, an interval stands below its value and heads are folded, so that they fit on a screen.
    """
    is_wide = len(columns) > _MOST_ON_ONE_LINE
    below, start = ("<br>[", '<th style="white-space:normal;overflow-wrap:normal">') if is_wide else (" [", "<th>")
    head = "".join(f"{start}{escape(column)}</th>" for column in columns)
    cells = [[escape(cell).replace(" [", below) for cell in row] for row in rows]
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in cells)
    return f'<div class="scroll"><table class="data"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def picture(path: Path, description: str) -> str:
    """Return a PNG inside the page; empty if the file is missing."""
    if not path.is_file():
        return ""
    encoded = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{escape(description)}" style="max-width:100%" src="data:image/png;base64,{encoded}"></p>'
