"""Sections of CURRICULUM_RESULTS.md about single models: why they hold up or not, and what they write."""

from __future__ import annotations

from collections.abc import Mapping

from tttkit.report.markdown_parts import bullets, table
from tttkit.results.diagnose import diagnoses_of
from tttkit.results.quality import COLUMNS, qualities_of
from tttkit.results.recall import recalls_of
from tttkit.run.directory import RunDirectory


def model_sections(run: RunDirectory) -> str:
    """Return the tables about the run's models; empty if nothing was measured. Raises DataError."""
    return "\n\n".join(filter(None, (_recall(run), _diagnoses(run), _qualities(run))))


def _recall(run: RunDirectory) -> str:
    parts = []
    for name, _, recall in recalls_of(run.path):
        title = f"### {name}, {recall.task}, n = {recall.values.get('num_examples')}"
        parts += [title, table(recall.table_rows()), _left_out(recall.left_out)]
    return "\n\n".join(["## Recall: what the models remember", *filter(None, parts)]) if parts else ""


def _diagnoses(run: RunDirectory) -> str:
    parts = []
    for name, _, diagnosis in diagnoses_of(run.path):
        parts += [f"### {name}, n = {diagnosis.values.get('num_sequences')} texts", table(diagnosis.table_rows())]
        parts.append(_left_out(diagnosis.left_out))
    return "\n\n".join(["## Why: state, memory, key tokens", *filter(None, parts)]) if parts else ""


def _qualities(run: RunDirectory) -> str:
    parts = []
    for name, quality in qualities_of(run.path):
        title = f"### {name}, n = {quality.values.get('num_prompts')} prompts"
        parts += [title, table(quality.table_rows(), COLUMNS), _left_out(quality.left_out)]
    return "\n\n".join(["## What the models write", *filter(None, parts)]) if parts else ""


def _left_out(reasons: Mapping[str, str]) -> str:
    """Return why parts were not measured, a line each; empty if nothing was left out."""
    lines = [f"Left out, {part.replace('_', ' ')}: {reason}." for part, reason in reasons.items()]
    return bullets(lines) if lines else ""
